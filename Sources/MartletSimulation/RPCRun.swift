import Martlet
import MartletCore
import MartletIdentity
import MartletRPC
import MartletSwarm

/// An `RPCScenario` under way, all on one thread.
final class RPCRun: @unchecked Sendable {
    enum Kind: Int, CaseIterable { case unary, large, failing, oneWay, items, collect, converse }

    /// What becomes of a call beside its kind.
    private enum Fate: CaseIterable { case patient, lasting, cancelled, hurried }

    struct Call {
        let kind: Kind
        var record: RPCCall?
        var session: RPCSession?
        var endings = 0
        var items = 0
        var isRight = true
        var outcome: RPCError.Outcome?
    }

    static let itemCount = 30
    private static let tickInterval = Duration.milliseconds(5)
    private static let trailing = Duration.seconds(60)

    private let scenario: RPCScenario
    let simulation: Simulation
    private let caller: RPCSimulatedPeer
    let server: RPCSimulatedPeer
    private(set) var calls: [Call] = []
    /// How often each call's handler was started.
    var runs: [Int]
    var result = RPCScenario.Result()
    private var isTrailing = false

    init(_ scenario: RPCScenario) {
        self.scenario = scenario
        simulation = Simulation(seed: scenario.seed, conditions: scenario.conditions)
        var limits = RPCLimits()
        limits.resumeWindow = .seconds(10)
        caller = RPCSimulatedPeer(simulation.addNode(), role: .caller, simulation: simulation, limits: limits)
        server = RPCSimulatedPeer(simulation.addNode(), role: .server, simulation: simulation, limits: limits)
        runs = Array(repeating: 0, count: scenario.callCount)
    }

    func run() -> RPCScenario.Result {
        caller.onEvent = { [unowned self] in heard($1, in: $0) }
        server.onEvent = { [unowned self] in serve($1, in: $0) }
        caller.node.onEvent = { [unowned self] event in
            guard case .pathChanged = event else { return }
            result.moves += caller.move(to: server.node)
        }
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

    func random(below limit: Duration) -> Duration {
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
            let (one, other) =
                Bool.random(using: &simulation.random) ? (caller.node, server.node) : (server.node, caller.node)
            switch Int.random(in: 0..<12, using: &simulation.random) {
            case 0..<3: disconnect(one, from: other)
            case 3..<5: one.closeConnection(to: other)
            // Both have one way of choosing between the two connections that there are then.
            case 5..<10: one.connectAgain(to: other)
            case 10:
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
        let fate = Fate.allCases.randomElement(using: &simulation.random) ?? .patient
        var message = RPCMessage(utf8: "\(index)")
        if kind == .large { message.append(Bytes([UInt8](repeating: 0x20, count: 400_000))) }
        let callKind: RPCCall.Kind =
            switch kind {
            case .unary, .large, .failing: .unary
            case .oneWay: .oneWay
            case .items, .collect, .converse: .stream
            }
        let request = RPCCallRequest(
            method: "Test.\(kind)", kind: callKind, message: message, priority: RPCPriority.allCases[index % 3],
            deadline: fate == .hurried ? simulation.now + random(below: .milliseconds(400)) : nil)
        do {
            let session = caller.session
            let call = try session.start(request, token: index, now: simulation.now)
            calls[index].record = call
            calls[index].session = session
            guard let call else { return ended(index, nil) }
            switch kind {
            case .items: session.finish(call)
            case .collect, .converse: planItem(0, of: index)
            case .unary, .large, .failing, .oneWay: break
            }
            if callKind == .stream { read(index) }
            if fate == .cancelled {
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

    /// Sends a stream's messages one after the other, each a moment after the one before.
    private func planItem(_ item: Int, of index: Int) {
        simulation.schedule(after: random(below: .milliseconds(20))) { [unowned self] _ in
            guard let call = calls[index].record, let session = calls[index].session else { return }
            defer { caller.flush() }
            guard item < Self.itemCount else { return session.finish(call) }
            // A call that is over takes no more, and has told its reader.
            guard (try? session.send(RPCMessage(utf8: "\(item)"), on: call)) != nil else { return }
            planItem(item + 1, of: index)
        }
    }

    private func heard(_ event: RPCSessionEvent, in session: RPCSession) {
        switch event {
        case .finished(let call, .success(let message)):
            if message.number != call.token { calls[call.token].isRight = false }
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
                let expected = calls[index].kind == .collect ? index : calls[index].items
                if message.number != expected { calls[index].isRight = false }
                calls[index].items += 1
            case .end:
                if calls[index].items != (calls[index].kind == .collect ? 1 : Self.itemCount) {
                    calls[index].isRight = false
                }
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

extension RPCMessage {
    /// The number that the message begins with.
    var number: Int? {
        let text = prefix(10).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        return Int(text.prefix { $0 != " " })
    }
}
