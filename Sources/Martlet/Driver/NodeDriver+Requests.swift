import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm
import Synchronization

extension NodeDriver {
    /// Finds or makes a connection. Cancelling the task gives up waiting.
    func connect(to peer: PeerID?, at addresses: [Multiaddr], directly: Bool = false) async throws -> ConnectedPeer {
        let request = Mutex<RequestID?>(nil)
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<ConnectedPeer, any Error>) in
                let isAccepted = home.execute {
                    guard !self.isStopped else { return continuation.resume(throwing: MartletError.stopped) }
                    let id = self.requests.add(.task(continuation))
                    request.withLock { $0 = id }
                    self.engine.swarm.connect(
                        id, to: peer, at: addresses, directly: directly, now: self.home.now)
                    self.drain()
                }
                if !isAccepted { continuation.resume(throwing: MartletError.stopped) }
            }
        } onCancel: {
            home.execute {
                guard let id = request.withLock(\.self) else { return }
                self.engine.swarm.cancel(id, now: self.home.now)
                self.drain()
            }
        }
    }

    /// Gives up a request of the node's own; nobody is told.
    func cancelOwn(_ request: RequestID) {
        guard requests.take(request) != nil else { return }
        engine.swarm.cancel(request, now: home.now)
        drain()
    }

    func complete(_ request: RequestID, _ result: Result<ConnectedPeer, DialError>) {
        switch requests.take(request) {
        case .task(let continuation): continuation.resume(with: result.mapError { MartletError($0) as any Error })
        case .node(let body): body(self, result)
        case nil: break
        }
    }

    /// The connection to use for a peer, made when there is none.
    func connectionDriver(for peer: PeerID) async throws -> ConnectionDriver {
        if let connection = try await onHome({ $0.driver(for: peer) }) { return connection }
        let connected = try await connect(to: peer, at: [])
        guard let connection = try await onHome({ $0.driver(of: connected.connection) ?? $0.driver(for: peer) })
        else { throw MartletError(.notConnected, "the connection to \(peer) closed at once") }
        return connection
    }
}
