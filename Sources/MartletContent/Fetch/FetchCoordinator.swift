import MartletCore
import MartletIdentity
import Synchronization

/// What the parts of one fetch share: the plan, who is connected, and how it ended. Everything is under one lock, held
/// briefly: a few times for each leaf.
final class FetchCoordinator: Sendable {
    /// What a peer's task is told by the plan.
    enum Order: Sendable {
        case request([Int])
        case cancel(Int)
        case drop(FetchPlan.DropReason)
    }

    /// A peer and the way to its task.
    final class Member: Sendable {
        let source: FetchSource
        let slot: FetchPlan.Peer
        let wake = Signal()
        let state = Mutex(State())

        struct State {
            var orders: [Order] = []
            var stream: (any ByteStream)?
            var dropReason: FetchPlan.DropReason?
            /// Since when a structure is expected without anything having come of it.
            var structureSilentSince: Instant?
        }

        init(source: FetchSource, slot: FetchPlan.Peer) {
            self.source = source
            self.slot = slot
        }

        /// Ends the conversation from outside.
        func reset(_ reason: FetchPlan.DropReason) {
            let stream = state.withLock { state in
                if state.dropReason == nil { state.dropReason = reason }
                return state.stream
            }
            stream?.reset()
            wake.signal()
        }
    }

    private struct State {
        var plan: FetchPlan?
        var manifest: Manifest?
        /// What peers did before there was a plan.
        var earlyReasons: [Int: FetchPlan.DropReason] = [:]
        var structureFetchers = 0
        var structureWaiters: [CheckedContinuation<Void, Never>] = []
        var outcome: Result<Void, ContentError>?
    }

    let root: CID
    let options: FetchOptions
    let events: @Sendable (FetchEvent) -> Void
    private let state = Mutex(State())
    private let membersBox = Mutex<[Member]>([])
    /// Signalled when the fetch is over.
    let milestone = Signal()
    /// Signalled when the graph is here, and when the fetch is over.
    private let manifestArrived = Signal()

    init(root: CID, options: FetchOptions, events: @escaping @Sendable (FetchEvent) -> Void) {
        self.root = root
        self.options = options
        self.events = events
    }

    var members: [Member] { membersBox.withLock { $0 } }
    func setMembers(_ members: [Member]) { membersBox.withLock { $0 = members } }

    var isOver: Bool { state.withLock { $0.outcome != nil } }
    var outcome: Result<Void, ContentError>? { state.withLock { $0.outcome } }
    var manifest: Manifest? { state.withLock { $0.manifest } }

    /// Ends the fetch, unless it has ended.
    func end(_ outcome: Result<Void, ContentError>) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard state.outcome == nil else { return [] }
            state.outcome = outcome
            defer { state.structureWaiters = [] }
            return state.structureWaiters
        }
        for waiter in waiters { waiter.resume() }
        for member in members { member.reset(.disconnected("the fetch is over")) }
        manifestArrived.signal()
        milestone.signal()
    }

    // MARK: The graph

    enum StructureTurn {
        case fetch
        case known(Manifest)
        case over
    }

    /// Whether this peer should get the graph. Two try at once, so that one that stalls does not hold up the rest; others
    /// wait.
    func structureTurn() async -> StructureTurn {
        while true {
            let turn: StructureTurn? = state.withLock { state in
                if state.outcome != nil { return .over }
                // The manifest alone does not do: the plan is made once the destination is ready.
                if let manifest = state.manifest, state.plan != nil { return .known(manifest) }
                guard state.manifest == nil, state.structureFetchers < 2 else { return nil }
                state.structureFetchers += 1
                return .fetch
            }
            if let turn { return turn }
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let isReady = state.withLock { state in
                    let canGoOn =
                        state.outcome != nil || state.plan != nil
                        || (state.manifest == nil && state.structureFetchers < 2)
                    if !canGoOn { state.structureWaiters.append(continuation) }
                    return canGoOn
                }
                if isReady { continuation.resume() }
            }
        }
    }

    /// A peer whose turn it was has the graph, or has not.
    func structureDone(_ manifest: Manifest?) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.structureFetchers -= 1
            if let manifest, state.manifest == nil { state.manifest = manifest }
            defer { state.structureWaiters = [] }
            return state.structureWaiters
        }
        for waiter in waiters { waiter.resume() }
        if manifest != nil { manifestArrived.signal() }
    }

    /// Waits for the graph; nil when the fetch is over before.
    func waitForManifest() async -> Manifest? {
        while true {
            let (manifest, isOver) = state.withLock { ($0.manifest, $0.outcome != nil) }
            if isOver { return nil }
            if let manifest { return manifest }
            await manifestArrived.wait()
        }
    }

    /// Begins asking for leaves.
    func start(_ plan: FetchPlan) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            var plan = plan
            for member in members {
                let peer = plan.addPeer()
                precondition(peer == member.slot, "peers are numbered in order")
            }
            // Only when all are known: the plan gives up when every peer it knows is gone.
            for member in members {
                guard let reason = state.earlyReasons[member.slot.index] else { continue }
                plan.peerLost(member.slot, reason, now: .systemNow())
            }
            state.plan = plan
            defer { state.structureWaiters = [] }
            return state.structureWaiters
        }
        for waiter in waiters { waiter.resume() }
        // A file of nothing but noted leaves, or without peers: the plan has something to say at once.
        withPlan { plan, _ in plan.tick(now: .systemNow()) }
    }

    // MARK: The plan

    /// Tells the plan something and passes on what it orders. Nil before there is a plan.
    @discardableResult
    func withPlan<R>(_ body: (inout FetchPlan, Instant) -> R) -> R? {
        let now = Instant.systemNow()
        let members = self.members
        var orders: [(Int, Order)] = []
        var ending: Result<Void, ContentError>?
        let result: R? = state.withLock { state in
            guard state.plan != nil else { return nil }
            let result = body(&state.plan!, now)
            while let output = state.plan!.nextOutput() {
                switch output {
                case .request(let peer, let leaves): orders.append((peer.index, .request(leaves)))
                case .cancel(let peer, let leaf): orders.append((peer.index, .cancel(leaf)))
                case .drop(let peer, let reason): orders.append((peer.index, .drop(reason)))
                case .completed: ending = .success(())
                case .failed(let failure): ending = .failure(describe(failure, members))
                }
            }
            return result
        }
        for (index, order) in orders {
            let member = members[index]
            if case .drop(let reason) = order {
                member.reset(reason)
            } else {
                member.state.withLock { $0.orders.append(order) }
                member.wake.signal()
            }
        }
        if let ending { end(ending) }
        return result
    }

    /// There is a better connection to a peer than that of its stream.
    func moved(_ member: Member) {
        let hasPlan: Void? = withPlan { plan, now in plan.peerMoves(member.slot, now: now) }
        // While the graph is being fetched nothing is worth waiting for.
        if hasPlan == nil { member.reset(.moved) }
    }

    /// The peer is gone, before or after there is a plan.
    func lost(_ member: Member, _ reason: FetchPlan.DropReason) {
        guard !isOver else { return }
        if case .corruptLeaf(let leaf) = reason {
            events(.corruptLeaf(peer: member.source.name, leaf: leaf))
        }
        events(reason == .moved ? .moved(peer: member.source.name) : .dropped(peer: member.source.name, reason))
        let members = self.members
        let allGone: ContentError? = state.withLock { state in
            guard state.plan == nil, reason.isFinal else { return nil }
            state.earlyReasons[member.slot.index] = reason
            guard state.earlyReasons.count == members.count, state.manifest == nil else { return nil }
            let reasons = members.compactMap { state.earlyReasons[$0.slot.index] }
            return describe(.noPeersLeft(reasons), members)
        }
        if let allGone { end(.failure(allGone)) }
        withPlan { plan, now in plan.peerLost(member.slot, reason, now: now) }
    }

    private func describe(_ failure: FetchPlan.Failure, _ members: [Member]) -> ContentError {
        switch failure {
        case .leafUnavailable(let leaf):
            return ContentError(.noPeersLeft, "no peer has leaf \(leaf) of \(root)")
        case .noPeersLeft(let reasons):
            let causes = zip(members, reasons).map { "\($0.source.name): \($1)" }
            return ContentError(
                .noPeersLeft, "no peer is left to fetch \(root) from (\(causes.joined(separator: "; ")))")
        }
    }
}

extension FetchPlan.DropReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .corruptLeaf(let leaf): "sent leaf \(leaf) with wrong content"
        case .misbehaved(let what): "broke the protocol: \(what)"
        case .stalled: "sent nothing for too long"
        case .unavailable(let status): "does not have it (\(status))"
        case .disconnected(let why): "the stream ended (\(why))"
        case .unreachable(let why): "not reachable (\(why))"
        case .moved: "goes on over another connection"
        }
    }
}
