import MartletCore
import MartletIdentity
import MartletRPC
import MartletRuntime
import MartletSwarm
import Synchronization

/// Runs one session with a peer: a lock around the machine, and what the machine says carried out outside the lock.
///
/// Any thread may come with a call; a lane's stream is touched by its link on the connection's loop alone. Whatever is
/// left for a link while it has not run is sent by it in one go.
final class RPCPeer: @unchecked Sendable {
    let peer: PeerID
    let rpc: NodeRPC
    let role: RPCSession.Role
    private let lock = Mutex(())

    // Under the lock, which is also why the run-time check for overlapping access is spared: it costs as much as a frame.
    @exclusivity(unchecked) private(set) var session: RPCSession
    @exclusivity(unchecked) private var links: [RPCLink?] = [nil, nil, nil]
    /// When the clock will look next; nil when it is not set.
    @exclusivity(unchecked) private var armedFor: Instant?
    @exclusivity(unchecked) private var isLinking = false
    /// Links in a row that ended soon and brought nothing, and how many of them are put up with.
    @exclusivity(unchecked) private var vainLinks = 0
    private static let vainStreamLimit = 3
    private static let vainConnectionLimit = 10
    /// A link that lasted so long was not in vain.
    private static let usefulLink = Duration.seconds(1)
    @exclusivity(unchecked) private var isStopped = false
    /// When to look whether the caller's session is used, and the calls begun when that was done last.
    @exclusivity(unchecked) private var idleCheckAt: Instant?
    private var startedBefore = 0
    @exclusivity(unchecked) private var methods = RPCMethodCache()
    private var clock: RPCClock!

    init(peer: PeerID, role: RPCSession.Role, id: RPCSessionID, rpc: NodeRPC) {
        self.peer = peer
        self.role = role
        self.rpc = rpc
        session = RPCSession(role: role, id: id, limits: rpc.limits)
        clock = RPCClock(self, loop: rpc.home)
    }

    /// What is to be done after the lock is let go.
    struct Effects {
        var actions = ContiguousArray<RPCAction>()
        /// Links with something to send.
        var links: (RPCLink?, RPCLink?, RPCLink?) = (nil, nil, nil)
        var setsClock = false
        var connects = false
    }

    /// Uses the session and carries out what comes of it.
    ///
    /// - Parameter running: the link that runs on this very loop, and sends for itself.
    func perform<T, E: Error>(
        _ effects: inout Effects, running: RPCLink? = nil, _ body: (RPCSession) throws(E) -> T
    ) throws(E) -> T {
        let result: Result<T, E> = withLock {
            let result: Result<T, E>
            do throws(E) { result = .success(try body(session)) } catch { result = .failure(error) }
            settle(&effects, running: running)
            return result
        }
        finish(&effects)
        return try result.get()
    }

    private func perform<T, E: Error>(_ body: (RPCSession) throws(E) -> T) throws(E) -> T {
        var effects = Effects()
        return try perform(&effects, body)
    }

    /// Under the lock: turns what happened into what is to be done.
    private func settle(_ effects: inout Effects, running: RPCLink?) {
        while let event = session.nextEvent() { note(event, &effects) }
        if let running, links[Int(running.lane.rawValue)] === running { running.send(from: session) }
        effects.links.0 = linkToWake(.control, running, &effects)
        effects.links.1 = linkToWake(.activation, running, &effects)
        effects.links.2 = linkToWake(.bulk, running, &effects)
        // What was sent may have let somebody go on.
        while let event = session.nextEvent() { note(event, &effects) }
        if let deadline = session.deadline, armedFor.map({ deadline < $0 }) ?? true {
            armedFor = deadline
            effects.setsClock = true
        }
    }

    /// The link of a lane with something to send; a lane without link that needs one sets a connection going.
    private func linkToWake(_ lane: RPCPriority, _ running: RPCLink?, _ effects: inout Effects) -> RPCLink? {
        if let link = links[Int(lane.rawValue)] {
            return link !== running && session.hasOutput(lane) ? link : nil
        }
        if role == .caller, !isLinking, !isStopped, session.needsLink(lane) {
            isLinking = true
            effects.connects = true
        }
        return nil
    }

    private func note(_ event: RPCSessionEvent, _ effects: inout Effects) {
        switch event {
        case .finished(let call, let result):
            guard case .waiting(let continuation) = call.waiter else {
                call.waiter = .done(result)
                return
            }
            call.waiter = .none
            effects.actions.append(.resume(continuation, result))
        case .handedOver(let call):
            guard case .waiting(let continuation) = call.waiter else {
                call.waiter = .done(.success(RPCMessage()))
                return
            }
            call.waiter = .none
            effects.actions.append(.resume(continuation, .success(RPCMessage())))
        case .readable(let call): if let port = call.port as? RPCPort { port.wakeReader(&effects.actions) }
        case .writable(let call): if let port = call.port as? RPCPort { port.wakeWriter(&effects.actions) }
        case .incoming(let call): incoming(call, &effects)
        case .request(let call): startHandler(of: call, &effects)
        case .cancelled(let call):
            guard let worker = call.worker as? RPCWorker else { return }
            effects.actions.append(.cancel(worker.taint()))
        case .lost: sessionLost(&effects)
        }
    }

    private func finish(_ effects: inout Effects) {
        for action in effects.actions { action.carryOut() }
        effects.actions.removeAll(keepingCapacity: true)
        wake(&effects.links.0)
        wake(&effects.links.1)
        wake(&effects.links.2)
        if effects.setsClock {
            effects.setsClock = false
            rpc.home.schedule(clock)
        }
        if effects.connects {
            effects.connects = false
            Task { [self] in await makeLinks() }
        }
    }

    private func wake(_ link: inout RPCLink?) {
        guard let woken = link.take() else { return }
        woken.loop.schedule(woken)
    }

    // MARK: Calls, from any thread

    /// Begins a call; nil when it is a one-way call that needs no waiting for.
    func begin(_ request: RPCCallRequest) throws(RPCError) -> RPCCall? {
        let now = request.deadline == nil ? Instant(nanoseconds: 0) : Instant.systemNow()
        return try perform { session throws(RPCError) in try session.start(request, token: 0, now: now) }
    }

    /// Begins a streaming call.
    func open(_ request: RPCCallRequest) throws(RPCError) -> RPCPort {
        let call: RPCCall? = try begin(request)
        guard let call else { preconditionFailure("a stream ended before it began") }
        return RPCPort(peer: self, call: call)
    }

    /// Has `continuation` resumed when the call is over.
    func wait(for call: RPCCall, _ continuation: UnsafeContinuation<RPCMessage, any Error>) {
        let result: Result<RPCMessage, RPCError>? = withLock {
            if case .done(let result) = call.waiter { return result }
            call.waiter = .waiting(continuation)
            return nil
        }
        if let result { RPCAction.resume(continuation, result).carryOut() }
    }

    func cancel(_ call: RPCCall) { perform { $0.cancel(call) } }

    /// Uses the session on behalf of a stream.
    func withSession<T, E: Error>(_ body: (RPCSession) throws(E) -> T) throws(E) -> T { try perform(body) }

    /// Looks at something without anything coming of it.
    func withLock<T>(_ body: () -> T) -> T {
        // Through a variable: the lock guards what is returned, so it may be returned.
        var result: T?
        lock.withLock { _ in result = body() }
        guard let result else { preconditionFailure("a lock that was not taken") }
        return result
    }

    // MARK: Serving

    private func incoming(_ call: RPCCall, _ effects: inout Effects) {
        guard let method = methods.method(of: call, in: rpc.services) else {
            return session.refuse(call, rpc.services.unknown(call.method))
        }
        if case .peers(let peers) = method.authorization, !peers.contains(peer) {
            return session.refuse(call, RPCError(.permissionDenied, "\(peer) may not call \(call.method)"))
        }
        call.handler = method
        if session.begin(call, awaitingRequest: method.takesOneMessage) { startHandler(of: call, &effects) }
    }

    private func startHandler(of call: RPCCall, _ effects: inout Effects) {
        guard let method = call.handler, let link = links[Int(call.lane.rawValue)] ?? links.compactMap(\.self).first
        else {
            // Unreachable while frames come over links; refused rather than left hanging.
            return session.handlerFinished(call, .failure(RPCError(.internal, "no connection to serve the call on")))
        }
        let request = method.takesOneMessage ? session.takeRequest(of: call) : RPCMessage()
        let job = RPCJob(peer: self, call: call, method: method, request: request)
        let (worker, action) = link.workers.take(job)
        call.worker = worker
        effects.actions.append(action)
    }

    /// A handler is done. False when its task is not to be used again.
    func handlerFinished(_ job: RPCJob, _ worker: RPCWorker, _ result: Result<RPCMessage?, RPCError>) -> Bool {
        perform { session in
            session.handlerFinished(job.call, result)
            job.call.worker = nil
            return !worker.isTainted
        }
    }

    // MARK: Links, on their loops

    /// A stream came in for a lane of this session. False when its hello cannot be.
    func accept(_ link: RPCLink, _ hello: RPCHello) -> Bool {
        let (isAccepted, old) = withLock { () -> (Bool, RPCLink?) in
            guard !isStopped, session.acceptLink(hello) else { return (false, nil) }
            let old = links[Int(hello.lane.rawValue)]
            links[Int(hello.lane.rawValue)] = link
            return (true, old)
        }
        old?.close()
        perform { _ in }
        return isAccepted
    }

    func received(_ bytes: Bytes, on link: RPCLink, _ effects: inout Effects) {
        let now = link.loop.now
        perform(&effects, running: link) { session in
            guard links[Int(link.lane.rawValue)] === link else { return }
            let before = session.receivedCount(on: link.lane)
            session.receive(bytes, on: link.lane, now: now)
            if vainLinks > 0, session.receivedCount(on: link.lane) > before { vainLinks = 0 }
        }
    }

    /// The link can send.
    func flush(_ link: RPCLink, _ effects: inout Effects) {
        perform(&effects, running: link) { _ in }
    }

    func lost(_ link: RPCLink, _ reason: RPCLinkEnd) {
        let now = link.loop.now
        perform { session in
            let index = Int(link.lane.rawValue)
            guard links[index] === link else { return }
            links[index] = nil
            session.linkLost(link.lane, now: now)
            guard role == .caller else { return }
            vainLinks = link.openedAt.map { now - $0 >= Self.usefulLink } ?? false ? 0 : vainLinks + 1
            switch reason {
            case .notSpoken:
                session.fail(RPCError(.unimplemented, "the peer does not speak \(NodeRPC.protocolID)"))
            case .violation(let what):
                session.fail(RPCError(.internal, "the stream failed: \(what)"))
            case .ended:
                if vainLinks > Self.vainStreamLimit {
                    session.fail(RPCError(.unavailable, "the peer closes the streams of its calls"))
                }
            case .connectionLost:
                if vainLinks > Self.vainConnectionLimit {
                    session.fail(RPCError(.unavailable, "connections to the peer are lost as soon as they are made"))
                }
            }
            // With nothing under way there is nothing to go on with: the next call begins a session of its own.
            if session.failure == nil, session.isIdle, links.allSatisfy({ $0 == nil }) {
                session.fail(RPCError(.unavailable, "the connection was lost"))
            }
        }
    }

    // MARK: Making links

    /// Gives every lane that needs one a stream, on the connection that there is or on one that is made.
    private func makeLinks() async {
        let session = withLock { self.session }
        while true {
            do {
                let connection = try await rpc.connection(to: peer)
                if await attach(to: connection, session) { return }
            } catch {
                guard await mayTryAgain(after: error, session) else { return }
            }
            // A connection that is just being lost: in a moment the swarm knows.
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Opens the streams. False when the connection takes none.
    private func attach(to connection: ConnectionDriver, _ session: RPCSession) async -> Bool {
        await withUnsafeContinuation { continuation in
            let isAccepted = connection.loop.execute { [self] in
                continuation.resume(returning: attachNow(to: connection, session))
            }
            if !isAccepted {
                continuation.resume(returning: endLinking(RPCError(.unavailable, "the node was stopped")))
            }
        }
    }

    private func attachNow(to connection: ConnectionDriver, _ expected: RPCSession) -> Bool {
        while true {
            let link: RPCLink? = withLock {
                guard session === expected, !isStopped,
                    let lane = RPCPriority.allCases.first(where: { session.needsLink($0) })
                else {
                    isLinking = false
                    return nil
                }
                let link = RPCLink(
                    loop: connection.loop, lane: lane, peer: self, workers: rpc.workers(of: connection.loop))
                links[Int(lane.rawValue)] = link
                session.openLink(lane)
                return link
            }
            guard let link else { break }
            do {
                link.attach(try connection.openStream([NodeRPC.protocolID], handler: link))
            } catch {
                let now = connection.loop.now
                withLock {
                    links[Int(link.lane.rawValue)] = nil
                    expected.linkLost(link.lane, now: now)
                }
                return false
            }
        }
        // Something may have come between.
        perform { _ in
            if idleCheckAt == nil { idleCheckAt = connection.loop.now + rpc.limits.idleSessionLifetime }
        }
        rpc.home.schedule(clock)
        return true
    }

    /// Whether a session that was cut off waits for its peer to come back by itself.
    private func mayTryAgain(after error: any Error, _ expected: RPCSession) async -> Bool {
        let hasNoAddress =
            if case .noAddresses? = (error as? MartletError)?.cause as? DialError { true } else { false }
        let waits = withLock { session === expected && expected.isGreeted && expected.failure == nil && !isStopped }
        guard hasNoAddress, waits else {
            _ = endLinking(RPCError(.unavailable, "\(error)"))
            return false
        }
        // The session's own window ends this.
        try? await Task.sleep(for: .milliseconds(50))
        return true
    }

    private func endLinking(_ error: RPCError) -> Bool {
        perform { session in
            isLinking = false
            session.fail(error)
        }
        return true
    }

    // MARK: The end

    /// Under the lock: the session is over, its calls have been told.
    private func sessionLost(_ effects: inout Effects) {
        for index in links.indices {
            if let link = links[index].take() { effects.actions.append(.close(link)) }
        }
        isLinking = false
        vainLinks = 0
        idleCheckAt = nil
        startedBefore = 0
        // Whoever calls this peer next begins anew; those who have this at hand already can go on with it.
        effects.actions.append(.forget(self))
        guard role == .caller, !isStopped else { return }
        var random = RandomSource.system
        session = RPCSession(role: .caller, id: RPCSessionID(random: &random), limits: rpc.limits)
        armedFor = nil
    }

    /// Ends the session for good.
    func stop() {
        perform { session in
            isStopped = true
            session.fail(RPCError(.unavailable, "the node was stopped"))
        }
    }

    /// Tells the caller that this node takes no further calls.
    func drain() { perform { $0.drain() } }

    /// Whether it can go to make room for another session of its peer.
    var isCutOff: Bool { withLock { links.allSatisfy { $0 == nil } } }
    /// Streams that its lanes have now.
    var linkCount: Int { withLock { links.reduce(0) { $0 + ($1 == nil ? 0 : 1) } } }
    var hasCalls: Bool { withLock { session.activeCount > 0 } }

    // MARK: The clock, on the home loop

    /// When the clock is to look next.
    func deadlineForClock() -> Instant? {
        withLock {
            armedFor = [session.deadline, idleCheckAt].compactMap(\.self).min()
            return armedFor
        }
    }

    func timedOut(now: Instant) {
        perform { session in
            armedFor = nil
            session.handleTimeout(now: now)
            checkUse(now: now)
        }
        // Whatever comes next is timed anew.
        rpc.home.schedule(clock)
    }

    /// Gives a caller's session up that nobody has used for a while: its streams would hold the connection for ever.
    private func checkUse(now: Instant) {
        guard let due = idleCheckAt, now >= due else { return }
        idleCheckAt = now + rpc.limits.idleSessionLifetime
        if session.isIdle, session.startedCount == startedBefore {
            session.fail(RPCError(.unavailable, "the session was not used"))
        }
        startedBefore = session.startedCount
    }
}

/// Wakes a session when it asked to be.
final class RPCClock: LoopWork, @unchecked Sendable {
    private weak var peer: RPCPeer?
    private let loop: EventLoop
    /// Confined to the loop.
    private var timer: LoopTimer?

    init(_ peer: RPCPeer, loop: EventLoop) {
        self.peer = peer
        self.loop = loop
    }

    override func run() {
        guard let deadline = peer?.deadlineForClock() else { return timer?.cancel() ?? () }
        let timer = timer ?? makeTimer()
        timer.schedule(at: deadline)
    }

    private func makeTimer() -> LoopTimer {
        let made = LoopTimer(loop: loop) { [weak self] in
            guard let self else { return }
            peer?.timedOut(now: loop.now)
        }
        timer = made
        return made
    }
}
