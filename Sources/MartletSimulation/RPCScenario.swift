import Martlet
import MartletCore
import MartletIdentity
import MartletRPC
import MartletSwarm

/// Calls of every kind over a connection that keeps failing, and a check that each ended once, ran at most once, and
/// became of it what its caller was told.
///
///     let result = RPCScenario(seed: 7).run()
///     // result.violations is empty
///
/// Everything follows from the seed: the same scenario runs the same way.
public struct RPCScenario: Sendable {
    public var seed: UInt64
    public var callCount = 200
    /// The calls, and the faults, are spread over this time.
    public var duration = Duration.seconds(30)
    /// How often a connection is closed, or the network cut for longer, on average.
    public var faultInterval = Duration.seconds(1)
    public var conditions = NetworkConditions()

    public init(seed: UInt64) { self.seed = seed }

    /// What came of it.
    public struct Result: Sendable {
        public var succeeded = 0
        public var notSent = 0
        public var maybeExecuted = 0
        /// Calls whose handler said no.
        public var executed = 0
        public var sessionsLost = 0
        public var faults = 0
        /// What should never be: empty, in a protocol that keeps its word.
        public var violations: [String] = []
    }

    public func run() -> Result { RPCRun(self).run() }
}

/// An `RPCScenario` under way, all on one thread.
private final class RPCRun: @unchecked Sendable {
    private enum Kind: Int, CaseIterable { case unary, large, failing, oneWay, stream, cancelled, hurried }

    private struct Call {
        let kind: Kind
        var record: RPCCall?
        var session: RPCSession?
        var endings = 0
        var items = 0
        var isRight = true
        var outcome: RPCError.Outcome?
    }

    private static let itemCount = 30
    private static let tickInterval = Duration.milliseconds(5)
    private static let trailing = Duration.seconds(60)

    private let scenario: RPCScenario
    private let simulation: Simulation
    private let caller: RPCSimulatedPeer
    private let server: RPCSimulatedPeer
    private var calls: [Call] = []
    private var runs: [Int]
    private var result = RPCScenario.Result()
    private var end = Instant.distantFuture
    private var isTrailing = false

    init(_ scenario: RPCScenario) {
        self.scenario = scenario
        simulation = Simulation(seed: scenario.seed, conditions: scenario.conditions)
        let limits = RPCLimits()
        caller = RPCSimulatedPeer(simulation.addNode(), role: .caller, simulation: simulation, limits: limits)
        server = RPCSimulatedPeer(simulation.addNode(), role: .server, simulation: simulation, limits: limits)
        runs = Array(repeating: 0, count: scenario.callCount)
    }

    func run() -> RPCScenario.Result {
        caller.onEvent = { [unowned self] in heard($1, in: $0) }
        server.onEvent = { [unowned self] in serve($1, in: $0) }
        for index in 0..<scenario.callCount {
            calls.append(Call(kind: Kind.allCases.randomElement(using: &simulation.random) ?? .unary))
            simulation.schedule(after: random(below: scenario.duration)) { [unowned self] _ in begin(index) }
        }
        planFault()
        planTick()
        simulation.run(for: scenario.duration)
        isTrailing = true
        simulation.heal()
        simulation.run(for: Self.trailing)
        check()
        return result
    }

    private func random(below limit: Duration) -> Duration {
        .nanoseconds(Int64.random(in: 0..<max(1, limit.nanoseconds), using: &simulation.random))
    }

    private func planTick() {
        simulation.schedule(after: Self.tickInterval) { [unowned self] _ in
            caller.tick()
            server.tick()
            caller.connect(to: server.node)
            planTick()
        }
    }

    // MARK: Faults

    private func planFault() {
        simulation.schedule(after: random(below: scenario.faultInterval * 2)) { [unowned self] _ in
            guard !isTrailing else { return }
            result.faults += 1
            switch Int.random(in: 0..<10, using: &simulation.random) {
            case 0..<4: disconnect(caller.node, from: server.node)
            case 4..<8: disconnect(server.node, from: caller.node)
            case 8:
                // Longer than a connection is given, shorter than a session is.
                cut(for: .seconds(4))
            default:
                // Too long for the session.
                cut(for: .seconds(14))
            }
            planFault()
        }
    }

    private func disconnect(_ node: SimulatedNode, from other: SimulatedNode) {
        node.engine.swarm.disconnect(other.peerID, reason: "a fault")
        simulation.settle(node)
    }

    private func cut(for time: Duration) {
        simulation.partition([0: 0, 1: 1])
        simulation.schedule(after: time) { $0.heal() }
    }

    // MARK: The caller

    private func begin(_ index: Int) {
        let kind = calls[index].kind
        var message = RPCMessage(utf8: "\(index)")
        if kind == .large { message.append(Bytes([UInt8](repeating: 0x20, count: 400_000))) }
        let request = RPCCallRequest(
            method: "Test.\(kind)", kind: kind == .oneWay ? .oneWay : kind == .stream ? .stream : .unary,
            message: message, priority: RPCPriority.allCases[index % 3],
            deadline: kind == .hurried ? simulation.now + random(below: .milliseconds(400)) : nil)
        do {
            let session = caller.session
            let call = try session.start(request, token: index, now: simulation.now)
            calls[index].record = call
            calls[index].session = session
            guard let call else { return ended(index, nil) }
            if kind == .stream {
                session.finish(call)
                read(index)
            }
            if kind == .cancelled {
                simulation.schedule(after: random(below: .milliseconds(400))) { [unowned self] _ in
                    session.cancel(call)
                    caller.flush()
                }
            }
        } catch {
            ended(index, error)
        }
        caller.flush()
    }

    private func heard(_ event: RPCSessionEvent, in session: RPCSession) {
        switch event {
        case .finished(let call, .success(let message)):
            let text = message.prefix(10).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
            let answer = text.prefix { $0 != " " }
            if answer != "\(call.token)" { calls[call.token].isRight = false }
            ended(call.token, nil)
        case .finished(let call, .failure(let error)): ended(call.token, error)
        case .handedOver(let call): ended(call.token, nil)
        case .readable(let call): read(call.token)
        case .lost: result.sessionsLost += 1
        case .writable, .incoming, .request, .cancelled: break
        }
    }

    private func read(_ index: Int) {
        guard let call = calls[index].record, let session = calls[index].session, calls[index].endings == 0 else {
            return
        }
        while true {
            switch session.take(from: call, now: simulation.now) {
            case .message(let message):
                if message.text != "\(calls[index].items)" { calls[index].isRight = false }
                calls[index].items += 1
            case .end:
                if calls[index].items != Self.itemCount { calls[index].isRight = false }
                return ended(index, nil)
            case .failed(let error): return ended(index, error)
            case .nothing: return
            }
        }
    }

    private func ended(_ index: Int, _ error: RPCError?) {
        calls[index].endings += 1
        calls[index].outcome = error?.outcome
        switch error?.outcome {
        case nil: result.succeeded += 1
        case .notSent?: result.notSent += 1
        case .maybeExecuted?: result.maybeExecuted += 1
        case .executed?: result.executed += 1
        }
    }

    // MARK: The server

    private func serve(_ event: RPCSessionEvent, in session: RPCSession) {
        switch event {
        case .incoming(let call): if session.begin(call, awaitingRequest: true) { start(call, session) }
        case .request(let call): start(call, session)
        case .cancelled(let call): session.handlerFinished(call, .failure(RPCError(.cancelled, "stopped")))
        case .finished, .handedOver, .readable, .writable, .lost: break
        }
    }

    private func start(_ call: RPCCall, _ session: RPCSession) {
        let request = session.takeRequest(of: call)
        let text = request.prefix(10).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        guard let index = Int(text.prefix { $0 != " " }), runs.indices.contains(index) else {
            result.violations.append("a request that nobody sent")
            return
        }
        runs[index] += 1
        simulation.schedule(after: random(below: .milliseconds(300))) { [unowned self] _ in
            switch calls[index].kind {
            case .failing: session.handlerFinished(call, .failure(RPCError(.aborted, "no")))
            case .stream:
                for item in 0..<Self.itemCount { _ = try? session.send(RPCMessage(utf8: "\(item)"), on: call) }
                session.handlerFinished(call, .success(nil))
            case .unary, .large, .oneWay, .cancelled, .hurried: session.handlerFinished(call, .success(request))
            }
            server.flush()
        }
    }

    // MARK: What must hold

    private func check() {
        for (index, call) in calls.enumerated() {
            func expect(_ condition: Bool, _ what: String) {
                if !condition { result.violations.append("call \(index) (\(call.kind)): \(what)") }
            }
            expect(call.endings == 1, "ended \(call.endings) times")
            expect(runs[index] <= 1, "ran \(runs[index]) times")
            expect(call.isRight, "got a wrong answer")
            switch call.outcome {
            case nil: expect(runs[index] == 1 || call.kind == .oneWay, "succeeded and did not run")
            case .notSent?: expect(runs[index] == 0, "ran and is said not to have")
            case .executed?: expect(runs[index] == 1, "did not run and is said to have")
            case .maybeExecuted?: break
            }
        }
        let open = caller.session.activeCount + server.sessions.reduce(0) { $0 + $1.activeCount }
        if open > 0 { result.violations.append("\(open) calls are still open") }
    }
}
