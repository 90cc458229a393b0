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
///
/// As a work of the home loop it sets its timer. Nobody refers to it weakly: what is referred to so costs more to retain, and
/// every call does that a few times.
final class RPCPeer: LoopWork, @unchecked Sendable {
    let peer: PeerID
    let rpc: NodeRPC
    let role: RPCSession.Role
    private let lock = Mutex(())

    // Under the lock, which is also why the run-time check for overlapping access is spared: it costs as much as a frame.
    @exclusivity(unchecked) var session: RPCSession
    @exclusivity(unchecked) var links: [RPCLink?] = [nil, nil, nil]
    /// When the clock will look next; nil when it is not set.
    @exclusivity(unchecked) var armedFor: Instant?
    @exclusivity(unchecked) var isLinking = false
    /// How often the connection to use has changed: what was begun for an earlier one is not carried through.
    @exclusivity(unchecked) var pathChangeCount: UInt64 = 0
    /// Links in a row that ended soon and brought nothing.
    @exclusivity(unchecked) var vainLinks = 0
    @exclusivity(unchecked) var isStopped = false
    /// When to look whether the caller's session is used, and the calls begun when that was done last.
    @exclusivity(unchecked) var idleCheckAt: Instant?
    var startedBefore = 0
    @exclusivity(unchecked) private var methods = RPCMethodCache()
    /// Links that were woken and have not run since, a bit for each lane: they need not be woken again.
    @exclusivity(unchecked) private var wokenLinks: UInt8 = 0
    /// On the home loop. While it is set it keeps this session.
    @exclusivity(unchecked) private var timer: LoopTimer?

    init(peer: PeerID, role: RPCSession.Role, id: RPCSessionID, rpc: NodeRPC) {
        self.peer = peer
        self.role = role
        self.rpc = rpc
        session = RPCSession(role: role, id: id, limits: rpc.limits)
        super.init()
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

    func perform<T, E: Error>(_ body: (RPCSession) throws(E) -> T) throws(E) -> T {
        var effects = Effects()
        return try perform(&effects, body)
    }

    /// Under the lock: turns what happened into what is to be done.
    private func settle(_ effects: inout Effects, running: RPCLink?) {
        while let event = session.nextEvent() { note(event, &effects) }
        if let running, links[Int(running.lane.rawValue)] === running {
            wokenLinks &= ~running.lane.bit
            running.send(from: session)
        }
        let lanes = session.usedLanes & ~wokenLinks
        if lanes & RPCPriority.control.bit != 0 { effects.links.0 = linkToWake(.control, running, &effects) }
        if lanes & RPCPriority.activation.bit != 0 { effects.links.1 = linkToWake(.activation, running, &effects) }
        if lanes & RPCPriority.bulk.bit != 0 { effects.links.2 = linkToWake(.bulk, running, &effects) }
        // What was sent may have let somebody go on.
        while let event = session.nextEvent() { note(event, &effects) }
        guard session.deadlineChanged else { return }
        session.deadlineChanged = false
        if let deadline = session.deadline, armedFor.map({ deadline < $0 }) ?? true {
            armedFor = deadline
            effects.setsClock = true
        }
    }

    /// Under the lock: another link than before is a lane's, or none.
    func setLink(_ link: RPCLink?, of lane: RPCPriority) {
        links[Int(lane.rawValue)] = link
        wokenLinks &= ~lane.bit
    }

    /// The link of a lane with something to send; a lane without link that needs one sets a connection going.
    private func linkToWake(_ lane: RPCPriority, _ running: RPCLink?, _ effects: inout Effects) -> RPCLink? {
        if let link = links[Int(lane.rawValue)] {
            guard link !== running, session.hasOutput(lane) else { return nil }
            wokenLinks |= lane.bit
            return link
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
            rpc.home.schedule(self)
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
        guard let request = method.takesOneMessage ? session.takeRequest(of: call) : RPCMessage() else { return }
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

    // MARK: The clock, on the home loop

    /// Sets the timer for what is due next.
    override func run() {
        let deadline: Instant? = withLock {
            armedFor = [session.deadline, idleCheckAt].compactMap(\.self).min()
            return armedFor
        }
        guard let deadline else {
            timer?.cancel()
            timer = nil
            return
        }
        let timer =
            timer
            ?? LoopTimer(loop: rpc.home) { [self] in
                // It is made anew when there is something to wait for.
                self.timer = nil
                timedOut(now: rpc.home.now)
            }
        self.timer = timer
        timer.schedule(at: deadline)
    }

    private func timedOut(now: Instant) {
        perform { session in
            armedFor = nil
            session.handleTimeout(now: now)
            checkUse(now: now)
        }
        // Whatever comes next is timed anew.
        rpc.home.schedule(self)
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

extension RPCPriority {
    /// Its place in a set of lanes.
    var bit: UInt8 { 1 << rawValue }
}
