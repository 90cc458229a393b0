import CMartlet
import DequeModule
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The queue and the threads of a blocking pool. The threads keep it, not the pool.
final class BlockingPoolCore: @unchecked Sendable {
    private let threadLimit: Int
    private let queueLimit: Int
    private let idleNanoseconds: Int64
    private let stackSize: Int
    private let name: String

    private let lock = Lock()
    private let arrived = Condition()
    // Under the lock.
    private var queue = Deque<AnyBlockingEntry>()
    private var threadCount = 0
    private var idleCount = 0
    private var isStopped = false
    private var endWaiters: [CheckedContinuation<Void, Never>] = []

    init(threadLimit: Int, queueLimit: Int, idleNanoseconds: Int64, stackSize: Int, name: String) {
        self.threadLimit = threadLimit
        self.queueLimit = queueLimit
        self.idleNanoseconds = idleNanoseconds
        self.stackSize = stackSize
        self.name = name
    }

    var currentThreadCount: Int { lock.withLock { threadCount } }
    var currentWaitingCount: Int { lock.withLock { queue.count } }

    /// Queues; or says why not.
    func submit(_ entry: AnyBlockingEntry) -> BlockingPoolError? {
        lock.lock()
        defer { lock.unlock() }
        guard !isStopped else { return .shutDown }
        // Those for whom a thread is free, or can be made, do not wait.
        let available = idleCount + (threadLimit - threadCount)
        guard queue.count < queueLimit + available else { return .queueFull(limit: queueLimit) }
        queue.append(entry)
        if queue.count <= idleCount {
            arrived.signal()
        } else if threadCount < threadLimit {
            if startThread(stackSize: stackSize, { self.work() }).map({ pthread_detach($0) }) != nil {
                threadCount += 1
            } else if threadCount == 0 {
                queue.removeLast()
                return .noThreads
            }
        }
        return nil
    }

    func stop() {
        lock.withLock {
            isStopped = true
            arrived.broadcast()
        }
    }

    func shutdown() async {
        await withCheckedContinuation { continuation in
            lock.lock()
            isStopped = true
            arrived.broadcast()
            if threadCount == 0 {
                lock.unlock()
                continuation.resume()
            } else {
                endWaiters.append(continuation)
                lock.unlock()
            }
        }
    }

    private func work() {
        martlet_name_thread(name)
        lock.lock()
        while true {
            if let entry = queue.popFirst() {
                lock.unlock()
                entry.run()
                lock.lock()
            } else if isStopped {
                break
            } else {
                idleCount += 1
                let signalled = arrived.wait(lock, nanoseconds: idleNanoseconds)
                idleCount -= 1
                if !signalled, queue.isEmpty { break }
            }
        }
        threadCount -= 1
        let waiters = threadCount == 0 ? endWaiters : []
        if threadCount == 0 { endWaiters = [] }
        lock.unlock()
        for waiter in waiters { waiter.resume() }
    }
}
