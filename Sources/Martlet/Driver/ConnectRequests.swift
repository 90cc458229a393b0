import MartletSwarm

/// Who waits for connections that the swarm was asked for. Confined to the home loop.
struct ConnectRequests {
    enum Asker {
        case task(UnsafeContinuation<ConnectedPeer, any Error>)
        /// The node itself.
        case node((NodeDriver, Result<ConnectedPeer, DialError>) -> Void)
    }

    private var askers: [RequestID: Asker] = [:]
    private var last: UInt64 = 0

    mutating func add(_ asker: Asker) -> RequestID {
        last += 1
        let request = RequestID(rawValue: last)
        askers[request] = asker
        return request
    }

    /// Forgets a request, and says who made it.
    mutating func take(_ request: RequestID) -> Asker? { askers.removeValue(forKey: request) }

    /// Forgets those of the node itself; nobody is told.
    mutating func forgetOwn() {
        askers = askers.filter { if case .task = $0.value { true } else { false } }
    }

    /// Forgets all. Tasks hear that the node was stopped.
    mutating func stop() {
        let rest = askers.sorted { $0.key < $1.key }
        askers = [:]
        for case (_, .task(let continuation)) in rest { continuation.resume(throwing: MartletError.stopped) }
    }
}
