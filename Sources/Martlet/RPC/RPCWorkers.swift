import MartletCore
import MartletRPC
import MartletRuntime
import Synchronization

/// A call and the handler that is to answer it.
struct RPCJob: Sendable {
    let peer: RPCPeer
    let call: RPCCall
    let method: RPCMethod
    let request: RPCMessage
}

/// The tasks that handlers run in, beside one loop. A task that is done waits for the next call instead of ending, since
/// making one costs more than a small call does.
final class RPCWorkers: Sendable {
    /// Tasks that wait at most; more of them end.
    private static let parkedLimit = 256

    private struct State: ~Copyable {
        var parked = ContiguousArray<RPCWorker>()
        var isStopped = false
    }

    let loop: EventLoop
    private let state = Mutex(State())

    init(loop: EventLoop) { self.loop = loop }

    /// Somebody for `job`, and what makes them begin.
    func take(_ job: RPCJob) -> (RPCWorker, RPCAction) {
        let parked = state.withLock { $0.parked.popLast() }
        if let parked, let continuation = parked.continuation.take() { return (parked, .employ(continuation, job)) }
        let worker = RPCWorker(self)
        return (worker, .hire(worker, job))
    }

    /// Waits for the next job; nil when there will be none.
    nonisolated(nonsending)
        func park(_ worker: RPCWorker) async -> RPCJob?
    {
        await withUnsafeContinuation { continuation in
            let isParked = state.withLock { state in
                guard !state.isStopped, state.parked.count < Self.parkedLimit else { return false }
                worker.continuation = continuation
                state.parked.append(worker)
                return true
            }
            if !isParked { continuation.resume(returning: nil) }
        }
    }

    /// Ends the tasks that wait; those that work end when they are done.
    func stop() {
        let parked = state.withLock { state in
            state.isStopped = true
            defer { state.parked = [] }
            return state.parked
        }
        for worker in parked { worker.continuation.take()?.resume(returning: nil) }
    }
}

/// One task that runs handlers, one call at a time.
final class RPCWorker: @unchecked Sendable {
    private let pool: RPCWorkers
    /// While parked; belongs to whoever takes the worker out of the pool.
    @exclusivity(unchecked) var continuation: UnsafeContinuation<RPCJob?, Never>?
    private let task = Mutex<(task: Task<Void, Never>?, isCancelled: Bool)>((nil, false))
    /// The task was cancelled, or will be: it runs no other handler. Under the lock of the session it works for.
    @exclusivity(unchecked) private(set) var isTainted = false

    init(_ pool: RPCWorkers) { self.pool = pool }

    /// Starts the task.
    func begin(_ job: RPCJob) {
        let made = Task(executorPreference: pool.loop) { await self.work(job) }
        let isCancelled = task.withLock { task in
            task.task = made
            return task.isCancelled
        }
        if isCancelled { made.cancel() }
    }

    /// The handler that runs is to stop, and the task with it.
    func taint() -> RPCWorker {
        isTainted = true
        return self
    }

    /// Cancels the task; called without locks, since it runs code of the handler's.
    func cancel() {
        let made = task.withLock { task in
            task.isCancelled = true
            return task.task
        }
        made?.cancel()
    }

    // Neither this nor what it calls asks for another executor: each asking costs a look-up of the one preferred.
    nonisolated(nonsending)
        private func work(_ first: RPCJob) async
    {
        var job: RPCJob? = first
        while let current = job.take() {
            let result = await run(current)
            guard current.peer.handlerFinished(current, self, result) else { return }
            job = await pool.park(self)
        }
    }

    nonisolated(nonsending)
        private func run(_ job: RPCJob) async -> Result<RPCMessage?, RPCError>
    {
        let call = job.call
        let context = RPCContext(
            peer: job.peer.peer, method: call.method, metadata: call.metadata, deadline: call.deadline,
            priority: call.lane)
        if case .check = job.method.authorization {
            do throws(RPCError) { try await job.method.authorization.require(context) } catch { return .failure(error) }
        }
        do {
            switch job.method.handler {
            case .unary(let handler): return .success(try await handler(job.request, context))
            case .oneWay(let handler):
                try await handler(job.request, context)
                return .success(RPCMessage())
            case .serverStreaming(let handler):
                try await handler(job.request, RPCWriter(RPCPort(peer: job.peer, call: call)), context)
                return .success(nil)
            case .clientStreaming(let handler):
                return .success(try await handler(RPCReader(RPCPort(peer: job.peer, call: call)), context))
            case .bidirectional(let handler):
                let port = RPCPort(peer: job.peer, call: call)
                try await handler(RPCReader(port), RPCWriter(port), context)
                return .success(nil)
            }
        } catch let error as RPCError {
            return .failure(error.with(.executed))
        } catch is CancellationError {
            return .failure(RPCError(.cancelled, "the handler was cancelled"))
        } catch {
            // Its text may hold what the caller is not to see; a handler that wants to be understood throws an RPCError.
            return .failure(RPCError(.unknown, "the handler threw \(type(of: error))"))
        }
    }
}
