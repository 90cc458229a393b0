#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A mutex that condition variables can wait on, which `Synchronization.Mutex` cannot offer.
final class Lock: @unchecked Sendable {
    fileprivate let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        mutex = .allocate(capacity: 1)
        let code = pthread_mutex_init(mutex, nil)
        precondition(code == 0, "pthread_mutex_init failed with \(code)")
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    @inline(__always) func lock() { pthread_mutex_lock(mutex) }
    @inline(__always) func unlock() { pthread_mutex_unlock(mutex) }

    func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }
}

/// A condition variable on the monotonic clock.
final class Condition: @unchecked Sendable {
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    init() {
        condition = .allocate(capacity: 1)
        #if canImport(Darwin)
            pthread_cond_init(condition, nil)
        #else
            withUnsafeTemporaryAllocation(of: pthread_condattr_t.self, capacity: 1) {
                pthread_condattr_init($0.baseAddress!)
                pthread_condattr_setclock($0.baseAddress!, CLOCK_MONOTONIC)
                pthread_cond_init(condition, $0.baseAddress!)
                pthread_condattr_destroy($0.baseAddress!)
            }
        #endif
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
    }

    func wait(_ lock: Lock) { pthread_cond_wait(condition, lock.mutex) }

    /// False when `nanoseconds` passed without a signal.
    func wait(_ lock: Lock, nanoseconds: Int64) -> Bool {
        #if canImport(Darwin)
            var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
            return pthread_cond_timedwait_relative_np(condition, lock.mutex, &time) == 0
        #else
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            let total = Int64(time.tv_nsec) + nanoseconds
            time.tv_sec += Int(total / 1_000_000_000)
            time.tv_nsec = Int(total % 1_000_000_000)
            return pthread_cond_timedwait(condition, lock.mutex, &time) == 0
        #endif
    }

    func signal() { pthread_cond_signal(condition) }
    func broadcast() { pthread_cond_broadcast(condition) }
}

/// A thread with a small stack. `nil` when the system refuses another thread.
func startThread(stackSize: Int, _ body: @escaping @Sendable () -> Void) -> pthread_t? {
    let box = Unmanaged.passRetained(ThreadBody(body))
    let thread = withUnsafeTemporaryAllocation(of: pthread_attr_t.self, capacity: 1) { memory -> pthread_t? in
        let attributes = memory.baseAddress!
        pthread_attr_init(attributes)
        defer { pthread_attr_destroy(attributes) }
        pthread_attr_setstacksize(attributes, stackSize)
        #if canImport(Darwin)
            var thread: pthread_t?
            let code = pthread_create(&thread, attributes, { ThreadBody.run($0) }, box.toOpaque())
        #else
            var thread = pthread_t()
            let code = pthread_create(&thread, attributes, { ThreadBody.run($0) }, box.toOpaque())
        #endif
        return code == 0 ? thread : nil
    }
    if thread == nil { box.release() }
    return thread
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    static func run(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        guard let argument else { return nil }
        // The one retain made before pthread_create, given over to this thread.
        Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body()
        return nil
    }
}
