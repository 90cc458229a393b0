import MartletIdentity
import Synchronization

/// Who is told when another connection to a peer becomes the one to use: what runs on the old one is best moved.
final class PathWatchers: Sendable {
    typealias Watcher = @Sendable (PeerID, ConnectionDriver) -> Void

    private struct State {
        /// In the order in which they came.
        var watchers: [(id: Int, body: Watcher)] = []
        var last = 0
    }

    private let state = Mutex(State())

    /// Calls `body` for every change from now on, on the home loop, in the order of the changes; it must not block.
    @discardableResult
    func add(_ body: @escaping Watcher) -> Int {
        state.withLock { state in
            state.last += 1
            state.watchers.append((state.last, body))
            return state.last
        }
    }

    func remove(_ id: Int) {
        state.withLock { state in state.watchers.removeAll { $0.id == id } }
    }

    func tell(_ peer: PeerID, _ connection: ConnectionDriver) {
        for watcher in state.withLock(\.watchers) { watcher.body(peer, connection) }
    }
}
