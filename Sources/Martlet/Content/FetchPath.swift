import MartletContent
import MartletCore
import MartletIdentity
import MartletSwarm
import Synchronization

/// The way from a fetch to one of its peers: opens streams on the best connection that there is, and tells when there is a
/// better one than that of the last stream.
final class FetchPath: Sendable {
    let moves: AsyncStream<Void>
    private let node: Node
    private let peer: PeerID
    private let addresses: [Multiaddr]
    /// That of the last stream.
    private let connection = Mutex<ConnectionID?>(nil)
    private let watcher = Mutex<Int?>(nil)

    init(node: Node, peer: PeerID, addresses: [Multiaddr]) {
        self.node = node
        self.peer = peer
        self.addresses = addresses
        let (moves, move) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.moves = moves
        let id = node.driver.pathWatchers.add { [weak self] peer, better in
            guard let self, peer == self.peer else { return }
            let isMove = connection.withLock { $0.map { $0 != better.id } ?? false }
            if isMove { move.yield() }
        }
        watcher.withLock { $0 = id }
    }

    deinit {
        if let id = watcher.withLock(\.self) { node.driver.pathWatchers.remove(id) }
    }

    func openStream() async throws -> MeshStream {
        while true {
            do {
                try await node.connect(to: peer, at: addresses)
            } catch let error as MartletError {
                guard let cause = error.cause as? DialError, cause.isRefusal else { throw error }
                throw FetchSourceGone("\(error)")
            }
            let used = try await node.connectionDriver(for: peer)
            let stream = try await node.openStream(on: used, to: peer, protocol: Node.blocksProtocol)
            connection.withLock { $0 = used.id }
            // A better one may have come before there was anybody to tell.
            let best = try await node.driver.onHome { [peer] in $0.driver(for: peer)?.id }
            if best == nil || best == used.id { return stream }
            stream.reset()
        }
    }
}
