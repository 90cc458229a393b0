import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// Knows what this node holds and what its peers do, and keeps both up to date over direct connections.
final class ShardExchange: Sendable {
    static let listPath = "martlet.Shards.list"
    static let announcePath = "martlet.Shards.announce"
    private static let exchangeDeadline = Duration.seconds(5)

    private struct State {
        var own = ShardList(sequence: 0, shards: [])
        var table = ShardTable()
        var random = RandomSource.system
        var isFollowing = false
        /// The first look at the peers that are there.
        var firstPull: Task<Void, Never>?
    }

    private let state = Mutex(State())

    init(rpc: NodeRPC) {
        // Numbers go on growing when the node is started again.
        let start = UInt64(max(0, WallTime.systemNow().nanosecondsSince1970))
        state.withLock { $0.own.sequence = start }
        rpc.services.register("martlet.Shards") { service in
            service.unary("list") { [weak self] _, _ in RPCMessage(self?.ownList.encoded ?? Bytes()) }
            service.oneWay("announce") { [weak self] message, context in
                try self?.takeIn(message, from: context.peer)
            }
        }
    }

    var ownList: ShardList { state.withLock { $0.own } }
    var known: [(peer: PeerID, shards: [ShardRegistration])] { state.withLock { $0.table.all } }

    private func takeIn(_ message: RPCMessage, from peer: PeerID) throws {
        guard message.byteCount <= ShardList.byteLimit else {
            throw RPCError(.resourceExhausted, "a list of shards of \(message.byteCount) bytes")
        }
        let list: ShardList
        do { list = try ShardList(decoding: message.contiguous()) } catch {
            throw RPCError(.invalidArgument, "a list of shards: \(error)")
        }
        let isTaken = state.withLock { $0.table.update(peer, with: list) }
        if !isTaken { throw RPCError(.resourceExhausted, "the limit on holders of shards is reached") }
    }

    // MARK: This node's own

    /// Changes what this node holds and tells its peers.
    func change(_ node: Node, _ body: (inout [ShardRegistration]) -> Void) {
        let list = state.withLock { state in
            body(&state.own.shards)
            state.own.sequence += 1
            return state.own
        }
        follow(node)
        Task {
            for status in (try? await node.peers()) ?? [] where status.protocols.contains(NodeRPC.protocolID) {
                // A peer that does not hear it asks when it connects again.
                try? await node.send(
                    status.peer, Self.announcePath, RPCMessage(list.encoded),
                    options: .init(deadline: Self.exchangeDeadline, priority: .control))
            }
        }
    }

    // MARK: Others'

    /// Begins to ask peers what they hold, once.
    @discardableResult
    func follow(_ node: Node) -> Task<Void, Never>? {
        state.withLock { state in
            if state.isFollowing { return state.firstPull }
            state.isFollowing = true
            let events = node.subscribeToEvents()
            let pull = Task { [weak node] in
                guard let node else { return }
                await self.pullAll(node)
            }
            state.firstPull = pull
            Task { [weak self, weak node] in
                for await event in events {
                    guard let self, let node else { return }
                    switch event {
                    case .identified(let peer, _, let protocols):
                        guard protocols.contains(NodeRPC.protocolID) else { continue }
                        Task { await self.pull(from: peer, node) }
                    case .disconnected(let peer, _): self.state.withLock { $0.table.remove(peer) }
                    case .connected, .pathChanged, .relayReserved, .relayLost, .relayFailed, .reachabilityChanged,
                        .portMapped:
                        break
                    }
                }
            }
            return pull
        }
    }

    private func pullAll(_ node: Node) async {
        await withTaskGroup(of: Void.self) { group in
            for status in (try? await node.peers()) ?? [] where status.protocols.contains(NodeRPC.protocolID) {
                group.addTask {
                    await self.pull(from: status.peer, node)
                    if let roundTrip = status.roundTrip {
                        self.state.withLock { $0.table.measured(roundTrip: roundTrip, to: status.peer) }
                    }
                }
            }
        }
    }

    private func pull(from peer: PeerID, _ node: Node) async {
        let options = RPCCallOptions(deadline: Self.exchangeDeadline, priority: .control, idempotent: true)
        guard let reply = try? await node.call(peer, Self.listPath, options: options) else { return }
        try? takeIn(reply, from: peer)
    }

    // MARK: Routing

    func choose(_ need: ShardNeed, _ affinity: String?, excluding tried: [PeerID]) -> PeerID? {
        state.withLock { state in
            let peer = state.table.choose(
                need, affinity: affinity, excluding: tried, random: &state.random, now: .systemNow())
            if let peer { state.table.began(at: peer) }
            return peer
        }
    }

    func ended(at peer: PeerID, since begin: Instant, isFailure: Bool) {
        let now = Instant.systemNow()
        state.withLock { $0.table.ended(at: peer, after: now - begin, isFailure: isFailure, now: now) }
    }
}
