import Synchronization

/// Hands a node's events to everybody who listens. Each subscriber has a bounded buffer; a slow one loses the oldest.
final class NodeEvents: Sendable {
    private static let bufferLimit = 1024

    private struct State {
        var listeners: [Int: AsyncStream<NodeEvent>.Continuation] = [:]
        var last = 0
        var isFinished = false
    }

    private let state = Mutex(State())

    /// - Parameter first: gets every event; its buffer is its own affair.
    init(first: AsyncStream<NodeEvent>.Continuation?) {
        state.withLock { $0.listeners[0] = first }
    }

    func subscribe() -> AsyncStream<NodeEvent> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: NodeEvent.self, bufferingPolicy: .bufferingNewest(Self.bufferLimit))
        let id: Int? = state.withLock { state in
            guard !state.isFinished else { return nil }
            state.last += 1
            state.listeners[state.last] = continuation
            return state.last
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.listeners.removeValue(forKey: id) }
        }
        return stream
    }

    func send(_ event: NodeEvent) {
        let listeners = state.withLock { Array($0.listeners.values) }
        for listener in listeners { listener.yield(event) }
    }

    func finish() {
        let listeners = state.withLock { state in
            defer {
                state.listeners = [:]
                state.isFinished = true
            }
            return Array(state.listeners.values)
        }
        for listener in listeners { listener.finish() }
    }
}
