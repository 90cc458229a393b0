public import MartletCore
import Synchronization

/// Threads for code that blocks: file reads, hashing, fsync.
///
///     let pool = BlockingPool(threadCount: 4, queueLimit: 1024)
///     let digest = try await pool.run { try hash(path) }
///
/// Threads are made when there is work for them and end when they have been idle. Callers beyond the threads wait
/// their turn in order, up to a limit.
public final class BlockingPool: BlockingExecutor {
    private let core: BlockingPoolCore

    /// - Parameters:
    ///   - threadCount: bodies that run at the same time.
    ///   - queueLimit: callers that wait for a thread; more are refused.
    ///   - idleLifetime: how long a thread waits for work before it ends.
    ///   - threadStackSize: bytes of stack of each thread.
    public init(
        threadCount: Int, queueLimit: Int, idleLifetime: Duration = .seconds(5), threadStackSize: Int = 1 << 20,
        name: String = "martlet-block"
    ) {
        precondition(threadCount > 0 && queueLimit >= 0, "a pool of \(threadCount) threads and \(queueLimit) waiting")
        core = BlockingPoolCore(
            threadLimit: threadCount, queueLimit: queueLimit, idleNanoseconds: idleLifetime.nanoseconds,
            stackSize: threadStackSize, name: name)
    }

    deinit { core.stop() }

    /// Runs `body` on a thread of the pool, after those who came earlier, and returns or throws what it does.
    ///
    /// - Throws: `BlockingPoolError` when too many wait already or the pool is shut down; `CancellationError` when the
    ///   task is cancelled before `body` began. A body that has begun runs to its end.
    public func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        let entry = BlockingEntry<T>(body)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard entry.wait(continuation) else { return }
                if let refusal = core.submit(entry) { entry.refuse(refusal) }
            }
        } onCancel: {
            entry.cancel()
        }
    }

    /// Lets the queued work finish, refuses new work, and waits until the threads are gone.
    public func shutdown() async { await core.shutdown() }

    /// Threads that exist now.
    public var threadCount: Int { core.currentThreadCount }

    /// Callers that wait for a thread now.
    public var waitingCount: Int { core.currentWaitingCount }
}

/// Why a blocking pool refused work.
public enum BlockingPoolError: Error, Hashable, Sendable, CustomStringConvertible {
    /// As many callers as allowed already wait.
    case queueFull(limit: Int)
    case shutDown
    /// The system has no more threads, and the pool has none yet.
    case noThreads

    public var description: String {
        switch self {
        case .queueFull(let limit): "\(limit) callers already wait for the blocking pool"
        case .shutDown: "the blocking pool is shut down"
        case .noThreads: "the system refuses another thread"
        }
    }
}

/// Something queued, whatever it returns.
class AnyBlockingEntry: @unchecked Sendable {
    func run() {}
}

private final class BlockingEntry<T: Sendable>: AnyBlockingEntry, @unchecked Sendable {
    private enum State {
        case new
        case waiting(CheckedContinuation<T, any Error>)
        case cancelled
        case taken
    }

    private let body: @Sendable () throws -> T
    private let state = Mutex(State.new)

    init(_ body: @escaping @Sendable () throws -> T) { self.body = body }

    /// False when it was cancelled already, which the continuation has been told.
    func wait(_ continuation: CheckedContinuation<T, any Error>) -> Bool {
        let isNew = state.withLock { state in
            guard case .new = state else { return false }
            state = .waiting(continuation)
            return true
        }
        if !isNew { continuation.resume(throwing: CancellationError()) }
        return isNew
    }

    func refuse(_ error: BlockingPoolError) { take()?.resume(throwing: error) }

    func cancel() {
        let waiting = state.withLock { state -> CheckedContinuation<T, any Error>? in
            switch state {
            case .waiting(let continuation):
                state = .cancelled
                return continuation
            case .new: state = .cancelled
            case .cancelled, .taken: break
            }
            return nil
        }
        waiting?.resume(throwing: CancellationError())
    }

    override func run() {
        guard let continuation = take() else { return }
        continuation.resume(with: Result { try body() })
    }

    private func take() -> CheckedContinuation<T, any Error>? {
        state.withLock { state in
            guard case .waiting(let continuation) = state else { return nil }
            state = .taken
            return continuation
        }
    }
}
