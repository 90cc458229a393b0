import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// Knows what this node holds and what its peers do, and keeps both up to date over direct connections.
final class ShardExchange: Sendable {
    static let listPath = "martlet.Shards.list"
    static let announcePath = "martlet.Shards.announce"
    private static let exchangeDeadline = Duration.seconds(5)
    /// How long after a peer did not answer in time it is asked again: at first, and at most, as it is doubled each time.
    private static let firstPause = Duration.seconds(1), longestPause = Duration.seconds(30)

    private struct State {
        var own = ShardList(sequence: 0, shards: [])
        var table = ShardTable()
        var random = RandomSource.system
        var isFollowing = false
        /// The first look at the peers that are there.
        var firstPull: Task<Void, Never>?
        /// For every connected peer that was asked.
        var pulls: [PeerID: Task<Void, Never>] = [:]
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
                Task { [weak self, weak node] in
                    await Self.persist {
                        guard let self, let node else { return true }
                        return await self.announce(list, to: status.peer, node)
                    }
                }
            }
        }
    }

    /// Tells a peer what this node holds. Returns whether it was sent, or need not be.
    private func announce(_ list: ShardList, to peer: PeerID, _ node: Node) async -> Bool {
        // There may be something newer to tell by now, and a peer that is gone asks when it connects again.
        guard ownList.sequence == list.sequence, await Self.isConnected(peer, node) else { return true }
        let options = RPCCallOptions(deadline: Self.exchangeDeadline, priority: .control)
        do {
            try await node.send(peer, Self.announcePath, RPCMessage(list.encoded), options: options)
            return true
        } catch { return !Self.mayPass(error) }
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
                        self.keepPulling(from: peer, node)
                    case .disconnected(let peer, _):
                        self.state.withLock { state in
                            state.table.remove(peer)
                            state.pulls.removeValue(forKey: peer)?.cancel()
                        }
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
                    if await !self.pull(from: status.peer, node) { self.keepPulling(from: status.peer, node) }
                    if let roundTrip = status.roundTrip {
                        self.state.withLock { $0.table.measured(roundTrip: roundTrip, to: status.peer) }
                    }
                }
            }
        }
    }

    /// Asks a peer in the background, until it has answered or is gone.
    private func keepPulling(from peer: PeerID, _ node: Node) {
        let pull = Task { [weak self, weak node] in
            await Self.persist {
                guard let self, let node else { return true }
                return await self.pull(from: peer, node)
            }
        }
        state.withLock { $0.pulls.updateValue(pull, forKey: peer)?.cancel() }
    }

    /// Asks a peer what it holds. Returns whether it has answered, or never will.
    private func pull(from peer: PeerID, _ node: Node) async -> Bool {
        // A call would dial one that is gone.
        guard await Self.isConnected(peer, node) else { return true }
        let options = RPCCallOptions(deadline: Self.exchangeDeadline, priority: .control, idempotent: true)
        do {
            try takeIn(try await node.call(peer, Self.listPath, options: options), from: peer)
            return true
        } catch { return !Self.mayPass(error) }
    }

    private static func isConnected(_ peer: PeerID, _ node: Node) async -> Bool {
        (try? await node.driver.onHome { $0.driver(for: peer) != nil }) ?? false
    }

    /// Whether a peer that failed so may answer later: it was busy, or its connection went.
    private static func mayPass(_ error: any Error) -> Bool {
        guard let error = error as? RPCError else { return false }
        return error.code == .deadlineExceeded || error.code == .unavailable
    }

    /// Does something again, more and more seldom, until it returns true or the task is cancelled.
    private static func persist(_ attempt: () async -> Bool) async {
        var pause = firstPause
        while !Task.isCancelled, await !attempt() {
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, longestPause)
        }
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
