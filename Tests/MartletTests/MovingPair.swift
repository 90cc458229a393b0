import Martlet
import MartletCore
import MartletIdentity
import MartletRuntime
import Synchronization
import Testing

@testable import Martlet

/// Two nodes that listen with TCP and QUIC, between which connections come and go.
///
/// Of two connections that both dialed, nodes keep the one that the smaller peer id dialed: so the one can be given a rival
/// that wins, or one that waits in reserve.
struct MovingPair {
    let nodes: NodePair
    /// Who calls and fetches.
    let caller: Node
    let server: Node
    private var smaller: Node { nodes.a.peerID < nodes.b.peerID ? nodes.a : nodes.b }
    private var larger: Node { nodes.a.peerID < nodes.b.peerID ? nodes.b : nodes.a }

    init(caller: Node, server: Node) {
        nodes = NodePair(a: caller, b: server)
        self.caller = caller
        self.server = server
    }

    init(callerIsSmaller: Bool, _ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }) async throws {
        let both = [try Multiaddr("/ip4/127.0.0.1/tcp/0"), try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]
        nodes = try await NodePair { configuration in
            configuration.listenAddresses = both
            configure(&configuration)
        }
        let isOrdered = nodes.a.peerID < nodes.b.peerID
        caller = isOrdered == callerIsSmaller ? nodes.a : nodes.b
        server = isOrdered == callerIsSmaller ? nodes.b : nodes.a
        try await caller.connect(to: server.listenAddresses[0])
    }

    /// A further connection beside those that there are; transport 0 is TCP, 1 QUIC.
    private func connectAgain(_ node: Node, to other: Node, transport: Int) async throws {
        try await node.connect(to: other.listenAddresses[transport % 2].withoutPeerID)
    }

    /// Replaces the connection in use twice: by losing it while another is in reserve, then by one that both prefer.
    func replaceConnection(transport: Int) async throws {
        try await connectAgain(larger, to: smaller, transport: transport)
        let from = transport / 2 % 2 == 0 ? caller : server
        try await lose(from)
        try await connectAgain(smaller, to: larger, transport: transport + 1)
    }

    /// Closes the connection that `node` uses for the other.
    func lose(_ node: Node) async throws {
        let other = node.peerID == nodes.a.peerID ? nodes.b.peerID : nodes.a.peerID
        let used = try await node.driver.onHome { $0.driver(for: other) }
        used?.loop.execute { used?.close() }
    }

    /// Every connection at once.
    func loseAll() async throws {
        try await server.disconnect(from: caller.peerID)
    }

    func stop() async { await nodes.stop() }
}

/// Counts, and lets somebody wait for a count.
final class Tally: Sendable {
    private struct State {
        var count = 0
        var waiting: [(Int, CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    var count: Int { state.withLock(\.count) }

    func add() {
        let reached = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.count += 1
            let reached = state.waiting.filter { $0.0 <= state.count }.map(\.1)
            state.waiting.removeAll { $0.0 <= state.count }
            return reached
        }
        for continuation in reached { continuation.resume() }
    }

    /// Waits until `more` have been counted from now on.
    func wait(for more: Int) async {
        await withCheckedContinuation { continuation in
            let isReached = state.withLock { state in
                guard more > 0 else { return true }
                state.waiting.append((state.count + more, continuation))
                return false
            }
            if isReached { continuation.resume() }
        }
    }
}
