import MartletCore
import MartletIdentity
import Synchronization

/// One peer's part of a fetch: connects, gets the graph if it is this peer's turn, then asks for what the plan orders and
/// hands what arrives to verification. Connects again when the stream ends, unless the peer is to blame.
struct FetchConversation: Sendable {
    let member: FetchCoordinator.Member
    let coordinator: FetchCoordinator
    let destination: DestinationFile
    let executor: any BlockingExecutor
    let work: ByteSemaphore

    private var options: FetchOptions { coordinator.options }

    func run() async {
        var failures = 0
        var lastBrought: Instant?
        while !coordinator.isOver, !Task.isCancelled {
            var reason: FetchPlan.DropReason
            var brought = false
            var isGone = false
            do {
                let stream = try await member.source.openStream()
                coordinator.events(.connected(peer: member.source.name))
                (reason, brought) = await converse(stream)
            } catch let error as FetchSourceGone {
                isGone = true
                reason = .disconnected(error.description)
            } catch {
                reason = .disconnected(String(describing: error))
            }
            guard !coordinator.isOver else { return }
            let now = Instant.systemNow()
            if brought { lastBrought = now }
            failures = reason == .moved ? 0 : brought ? 1 : failures + 1
            let mayComeBack = !isGone && lastBrought.map { now - $0 < options.resumeWindow } ?? false
            if failures >= options.maximumAttempts, !mayComeBack, case .disconnected(let why) = reason {
                reason = .unreachable(why)
            }
            coordinator.lost(member, reason)
            if reason.isFinal { return }
            // A peer that was of use is asked again at once. The pause ends early with the fetch, which cancels this task.
            if brought || reason == .moved { continue }
            try? await Task.sleep(for: options.retryPause * (1 << min(failures - 1, 3)))
        }
    }

    /// Talks over one stream until it ends; returns why, and whether anything useful came.
    private func converse(_ stream: any ByteStream) async -> (FetchPlan.DropReason, Bool) {
        let wasOver = member.state.withLock { state in
            state = FetchCoordinator.Member.State()
            state.stream = stream
            return coordinator.isOver
        }
        defer { member.state.withLock { $0.stream = nil } }
        if wasOver { stream.reset() }
        let conversation = Conversation(stream: stream, limits: options.limits)
        var reason: FetchPlan.DropReason
        do {
            try await talk(conversation)
            reason = .disconnected("the peer finished")
        } catch let error as BlockStreamError {
            if case .endedEarly = error {
                reason = .disconnected("the peer finished early")
            } else {
                reason = .misbehaved(error.description)
            }
        } catch let error as ConversationEnd {
            reason = error.reason
        } catch {
            reason = .disconnected(String(describing: error))
        }
        stream.reset()
        // A reset that we ordered knows better why than the error that it caused.
        if let ordered = member.state.withLock({ $0.dropReason }) { reason = ordered }
        return (reason, conversation.hasBrought)
    }

    /// Ends the conversation for a reason.
    private struct ConversationEnd: Error {
        let reason: FetchPlan.DropReason
    }

    /// What the reading and the writing side of one stream share.
    private final class Conversation: Sendable {
        let stream: any ByteStream
        let session: Mutex<BlockClientSession>
        private let brought = Atomic<Bool>(false)

        init(stream: any ByteStream, limits: BlockStream.Limits) {
            self.stream = stream
            session = Mutex(BlockClientSession(limits: limits))
        }

        var hasBrought: Bool { brought.load(ordering: .relaxed) }
        func noteBrought() { brought.store(true, ordering: .relaxed) }
    }

    private func talk(_ conversation: Conversation) async throws {
        let manifest: Manifest
        switch await coordinator.structureTurn() {
        case .over: return
        case .known(let known): manifest = known
        case .fetch:
            var got: Manifest?
            defer { if got == nil { coordinator.structureDone(nil) } }
            got = try await fetchStructure(conversation)
            coordinator.structureDone(got)
            // The plan begins when the destination is ready.
            guard case .known(let known) = await coordinator.structureTurn() else { return }
            manifest = known
        }
        coordinator.withPlan { plan, now in plan.peerReady(member.slot, now: now) }
        // Leaves that have arrived are verified to the end whatever becomes of the stream: nothing in this group throws, since
        // that would cancel the others.
        let end: Result<Void, any Error> = await withDiscardingTaskGroup { group in
            group.addTask { await self.sendRequests(conversation, manifest) }
            let end: Result<Void, any Error>
            do {
                try await receiveLeaves(conversation, manifest, &group)
                end = .success(())
            } catch {
                end = .failure(error)
            }
            conversation.stream.reset()
            // The sender is woken to see that the stream is gone.
            member.state.withLock { $0.stream = nil }
            member.wake.signal()
            return end
        }
        try end.get()
    }

    // MARK: The graph

    private func fetchStructure(_ conversation: Conversation) async throws -> Manifest {
        let graph: Graph
        do {
            graph = Graph(try ManifestBuilder(root: coordinator.root, limits: options.graphLimits))
        } catch {
            coordinator.end(.failure(error))
            throw error
        }
        // A single leaf has no graph.
        if let manifest = graph.manifest { return manifest }
        let (_, message) = conversation.session.withLock {
            $0.requestStructure(root: coordinator.root, nodeByteCount: options.graphLimits.nodeByteCount)
        }
        member.state.withLock { $0.structureSilentSince = .systemNow() }
        defer { member.state.withLock { $0.structureSilentSince = nil } }
        try await conversation.stream.write(message)
        while let bytes = try await conversation.stream.read() {
            var arrived: [BlockClientSession.Event] = []
            try conversation.session.withLock { session throws(BlockStreamError) in
                try session.received(bytes)
                while let event = session.nextEvent() { arrived.append(event) }
            }
            for event in arrived {
                switch event {
                case .node(_, let payload):
                    member.state.withLock { $0.structureSilentSince = .systemNow() }
                    try await check(graph, payload)
                    conversation.noteBrought()
                case .structureEnded(_, .end):
                    guard let manifest = graph.manifest else {
                        throw ConversationEnd(reason: .misbehaved("ended a structure before it was complete"))
                    }
                    return manifest
                case .structureEnded(_, let status): throw ConversationEnd(reason: .unavailable(status))
                case .leaf, .unavailable: throw BlockStreamError.wrongStatus(.found)
                }
            }
        }
        throw BlockStreamError.endedEarly
    }

    /// A graph that is being received, changed in place: it grows to many megabytes for a file of a terabyte.
    private final class Graph: Sendable {
        private let builder: Mutex<ManifestBuilder>

        init(_ builder: ManifestBuilder) { self.builder = Mutex(builder) }

        var manifest: Manifest? { builder.withLock { $0.manifest } }

        func receive(_ block: Bytes) throws(ContentError) -> Bool {
            try builder.withLock { builder throws(ContentError) in try builder.receive(block) }
        }
    }

    /// Hashing and parsing a large node takes a while; it is done where that disturbs nobody.
    private func check(_ graph: Graph, _ payload: LeafPayload) async throws {
        do {
            guard try await executor.run({ try graph.receive(payload.joined) }) else {
                throw ConversationEnd(reason: .misbehaved("sent a node that does not belong to the graph"))
            }
        } catch let error as ContentError {
            // The right node, and still no file: no peer can help.
            coordinator.end(.failure(error))
            throw error
        }
    }

    // MARK: Asking

    private func sendRequests(_ conversation: Conversation, _ manifest: Manifest) async {
        var requests = RequestBook()
        var waiting: [FetchCoordinator.Order] = []
        while true {
            let (orders, isOpen) = member.state.withLock { state in
                defer { state.orders = [] }
                return (state.orders, state.stream != nil)
            }
            guard isOpen else { return }
            waiting += orders
            while let order = waiting.first {
                let message = conversation.session.withLock { session -> Bytes? in
                    requests.message(for: order, coordinator.root, manifest, &session)
                }
                if message == nil, case .request = order { break }
                waiting.removeFirst()
                guard let message else { continue }
                do {
                    try await conversation.stream.write(message)
                } catch {
                    // The reading side learns why.
                    conversation.stream.reset()
                    return
                }
            }
            await member.wake.wait()
        }
    }

    /// Which request each leaf was asked for with, so that one whose leaves have all come from elsewhere is cancelled.
    private struct RequestBook {
        private var requestOfLeaf: [Int: UInt32] = [:]
        /// Leaves that are not needed any more, of requests that still bring others.
        private var unwanted: Set<Int> = []

        /// Nil when nothing is to be sent: for a cancellation of one leaf among others, or while there are too many requests.
        mutating func message(
            for order: FetchCoordinator.Order, _ root: CID, _ manifest: Manifest, _ session: inout BlockClientSession
        ) -> Bytes? {
            switch order {
            case .drop: return nil
            case .request(let leaves):
                guard session.canRequest else { return nil }
                let isKnown = manifest.byteCount != nil
                let (id, message) = session.requestLeaves(
                    root: root,
                    leaves.map { leaf in
                        BlockClientSession.LeafRequest(
                            index: UInt64(leaf), byteCount: isKnown ? manifest.leaves[leaf].byteCount : nil)
                    })
                for leaf in leaves {
                    requestOfLeaf[leaf] = id
                    unwanted.remove(leaf)
                }
                if requestOfLeaf.count > 4096 { forgetAnswered(session) }
                return message
            case .cancel(let leaf):
                guard let id = requestOfLeaf[leaf] else { return nil }
                unwanted.insert(leaf)
                let rest = session.unansweredLeaves(of: id)
                guard !rest.isEmpty, rest.allSatisfy({ unwanted.contains(Int($0)) }) else { return nil }
                return session.cancel(id)
            }
        }

        /// Answered requests need not be remembered.
        private mutating func forgetAnswered(_ session: BlockClientSession) {
            requestOfLeaf = requestOfLeaf.filter { session.isOutstanding($0.value) }
            unwanted = unwanted.filter { requestOfLeaf[$0] != nil }
        }
    }

    // MARK: Leaves

    private func receiveLeaves(
        _ conversation: Conversation, _ manifest: Manifest, _ group: inout DiscardingTaskGroup
    ) async throws {
        var unreported = 0
        var reportedAt = Instant.systemNow()
        while let bytes = try await conversation.stream.read() {
            unreported += bytes.count
            var arrived: [BlockClientSession.Event] = []
            try conversation.session.withLock { session throws(BlockStreamError) in
                try session.received(bytes)
                while let event = session.nextEvent() { arrived.append(event) }
            }
            guard !arrived.isEmpty else {
                // A slow peer's bytes count before a leaf is complete.
                let now = Instant.systemNow()
                if now - reportedAt > .milliseconds(200) {
                    let count = unreported
                    (unreported, reportedAt) = (0, now)
                    coordinator.withPlan { plan, now in plan.progress(member.slot, byteCount: count, now: now) }
                }
                continue
            }
            let count = unreported
            (unreported, reportedAt) = (0, .systemNow())
            coordinator.withPlan { plan, now in plan.progress(member.slot, byteCount: count, now: now) }
            for event in arrived {
                switch event {
                case .leaf(_, let index, let payload):
                    conversation.noteBrought()
                    let leaf = Int(index)
                    let isNeeded = coordinator.withPlan { plan, now in
                        plan.leafReceived(leaf, from: member.slot, now: now)
                    }
                    guard isNeeded == true else { continue }
                    if !work.tryAcquire(workByteCount(payload)) {
                        // The peer does not send because we do not read: its silence is ours.
                        coordinator.withPlan { plan, now in plan.holdUp(member.slot, true, now: now) }
                        await work.acquire(workByteCount(payload))
                        coordinator.withPlan { plan, now in plan.holdUp(member.slot, false, now: now) }
                    }
                    group.addTask { await self.verify(leaf, payload, manifest) }
                case .unavailable(_, let indices, let status):
                    coordinator.withPlan { plan, now in
                        for index in indices {
                            plan.leafUnavailable(Int(index), from: member.slot, status, now: now)
                        }
                    }
                case .node, .structureEnded: throw BlockStreamError.wrongStatus(.found)
                }
            }
            // Requests that were answered make room for those that wait.
            member.wake.signal()
        }
        try conversation.session.withLock { session throws(BlockStreamError) in try session.receivedEnd() }
    }

    /// Hashes a leaf and, when it is right, writes it where it belongs.
    private func verify(_ leaf: Int, _ payload: LeafPayload, _ manifest: Manifest) async {
        defer { work.release(workByteCount(payload)) }
        let expected = manifest.leaves[leaf]
        do {
            let isRight = try await executor.run { [destination, options] in
                guard payload.digest == expected.digest else { return false }
                try destination.write(
                    payload, leaf: leaf, at: expected.offset, startsWriteback: options.syncsToDisk)
                if manifest.byteCount == nil { destination.noteByteCount(UInt64(payload.byteCount)) }
                return true
            }
            coordinator.withPlan { plan, now in
                if isRight {
                    plan.leafVerified(leaf, from: member.slot, now: now)
                } else {
                    plan.leafCorrupt(leaf, from: member.slot, now: now)
                }
            }
        } catch let error as ContentError {
            coordinator.end(.failure(error))
        } catch {
            coordinator.end(.failure(ContentError(ofExecutor: error)))
        }
    }

    /// What a leaf counts for in the work at hand: small ones count for more than their size, because each is a piece of
    /// work for the executor, whose queue is limited.
    private func workByteCount(_ payload: LeafPayload) -> Int { max(payload.byteCount, options.workByteCount / 128) }
}

extension ContentError {
    /// The error for a blocking executor that did not run its work.
    init(ofExecutor error: any Error) {
        if error is CancellationError {
            self.init(.cancelled, "cancelled")
        } else {
            self.init(.overloaded, "this node is too busy: \(error)")
        }
    }
}
