#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Lets any number of readers in, and now and then one that must be alone: LMDB may only be remapped while no
/// transaction is open.
///
/// Blocking by design: its users are on threads where blocking is allowed.
final class GrowthGate: @unchecked Sendable {
    // All fields are guarded by `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var readers = 0
    private var isGrowing = false
    private var isClosed = false

    init() {
        pthread_mutex_init(mutex, nil)
        // The monotonic clock: a step of the wall clock must not end or prolong a wait.
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        #if canImport(Glibc)
            pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        #endif
        pthread_cond_init(changed, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Enters as a reader, waiting while the map grows. False when the gate was closed.
    func enter() -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while isGrowing && !isClosed { pthread_cond_wait(changed, mutex) }
        guard !isClosed else { return false }
        readers += 1
        return true
    }

    func leave() {
        pthread_mutex_lock(mutex)
        readers -= 1
        if readers == 0 { pthread_cond_broadcast(changed) }
        pthread_mutex_unlock(mutex)
    }

    enum Outcome<R> {
        case done(R)
        /// The readers that did not leave in time.
        case blocked(readers: Int)
    }

    /// Runs `body` while nobody is inside, waiting at most `seconds` for the readers to leave.
    func alone<R>(waiting seconds: Double, _ body: () -> R) -> Outcome<R> {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard waitUntilEmpty(seconds) else { return .blocked(readers: readers) }
        defer {
            isGrowing = false
            pthread_cond_broadcast(changed)
        }
        return .done(body())
    }

    /// Turns new readers away for ever and waits for those inside.
    func close(waiting seconds: Double) -> Outcome<Void> {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        isClosed = true
        pthread_cond_broadcast(changed)
        return waitUntilEmpty(seconds) ? .done(()) : .blocked(readers: readers)
    }

    /// Sets `isGrowing` when it returns true.
    private func waitUntilEmpty(_ seconds: Double) -> Bool {
        isGrowing = true
        var end = timespec()
        clock_gettime(CLOCK_MONOTONIC, &end)
        let nanoseconds = Int(end.tv_nsec) + Int(seconds * 1e9)
        end.tv_sec += nanoseconds / 1_000_000_000
        end.tv_nsec = nanoseconds % 1_000_000_000
        while readers > 0 {
            #if canImport(Glibc)
                let result = pthread_cond_timedwait(changed, mutex, &end)
            #else
                var rest = timespec(tv_sec: Int(seconds), tv_nsec: 0)
                let result = pthread_cond_timedwait_relative_np(changed, mutex, &rest)
            #endif
            if result == ETIMEDOUT, readers > 0 {
                isGrowing = false
                pthread_cond_broadcast(changed)
                return false
            }
        }
        return true
    }
}
