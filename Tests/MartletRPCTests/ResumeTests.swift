import MartletCore
import Testing

@testable import MartletRPC

/// One call of every kind and class, small and large, over a connection that is cut or left once.
private func runMix(_ pair: SessionPair) throws {
    pair.behaviours = [
        "Echo.echo": .echo, "Echo.items": .items(3), "Echo.collect": .collect, "Echo.converse": .converse,
        "Echo.fail": .fail(RPCError(.notFound, "not there")),
    ]
    let unary = try pair.echo("unary")
    let control = try pair.echo("control", priority: .control)
    let large = RPCMessage(Bytes([UInt8](repeating: 9, count: 2100)))
    let bulk = try pair.echo(large, priority: .bulk)
    let failing = try pair.call("Echo.fail", "failing")
    _ = try pair.echo("one way", kind: .oneWay)
    let items = try #require(try pair.call("Echo.items", "items", kind: .stream).call)
    pair.caller.finish(items)
    let collecting = try #require(try pair.call("Echo.collect", nil, kind: .stream).call)
    for text in ["a", "b"] { _ = try pair.caller.send(RPCMessage(utf8: text), on: collecting) }
    pair.caller.finish(collecting)
    let conversing = try #require(try pair.call("Echo.converse", "one", kind: .stream, priority: .control).call)
    _ = try pair.caller.send("two", on: conversing)
    pair.run()
    // Each side has answered the other, and the conversation goes on where it was.
    #expect(pair.takeAll(conversing).texts == ["re: one", "re: two"])
    for text in ["three", "four"] { _ = try pair.caller.send(RPCMessage(utf8: text), on: conversing) }
    pair.run()
    let reply = pair.takeAll(conversing).texts
    pair.caller.finish(conversing)
    pair.run()
    let rest = pair.takeAll(conversing)
    let late = try pair.echo("late")
    pair.run()

    #expect(pair.lost == nil)
    #expect(try pair.result(of: unary.token)?.text == "unary")
    #expect(try pair.result(of: control.token)?.text == "control")
    #expect(try pair.result(of: bulk.token) == large)
    #expect(pair.error(of: failing.token)?.code == .notFound)
    #expect(pair.takeAll(items).texts == ["0", "1", "2"])
    #expect(pair.takeAll(collecting).texts == ["a,b"])
    #expect(reply == ["re: three", "re: four"])
    #expect(rest.texts == ["4 in all"])
    guard case .end = rest.end else {
        Issue.record("the conversation ended with \(rest.end)")
        return
    }
    #expect(try pair.result(of: late.token)?.text == "late")
    let runs = [
        "unary": 1, "control": 1, "2100": 1, "failing": 1, "one way": 1, "items": 1, "a,b": 1, "late": 1,
        "one,two,three,four": 1,
    ]
    #expect(pair.runs == runs)
    #expect(pair.endings.values.allSatisfy { $0 == 1 })
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
}

/// How many bytes the mix takes each way when nothing is cut.
private func measure() throws -> (up: Int, down: Int) {
    let pair = SessionPair()
    try runMix(pair)
    return (pair.sentToServer, pair.sentToCaller)
}

@Test(arguments: SessionPair.Interruption.allCases)
func everyCallRunsOnceWhereverTheWayToTheServerEnds(_ interruption: SessionPair.Interruption) throws {
    let (up, _) = try measure()
    for position in 1...up {
        let pair = SessionPair()
        pair.interruption = interruption
        pair.bytesToServer = position
        try runMix(pair)
    }
}

@Test(arguments: SessionPair.Interruption.allCases)
func everyCallRunsOnceWhereverTheWayBackEnds(_ interruption: SessionPair.Interruption) throws {
    let (_, down) = try measure()
    for position in 1...down {
        let pair = SessionPair()
        pair.interruption = interruption
        pair.bytesToCaller = position
        try runMix(pair)
    }
}

@Test(arguments: 0..<40 as Range<UInt64>)
func everyCallRunsOnceOverManyCutsAndMoves(seed: UInt64) throws {
    var random = RandomSource(seed: seed)
    let pair = SessionPair()
    pair.behaviours["Echo.items"] = .items(20)
    var tokens: [Int: String] = [:]
    var streams: [RPCCall] = []
    for round in 0..<200 {
        let text = "call \(round)"
        switch Int.random(in: 0..<4, using: &random) {
        case 0: tokens[try pair.echo(RPCMessage(utf8: text), priority: .control).token] = text
        case 1: tokens[try pair.echo(RPCMessage(utf8: text), priority: .bulk).token] = text
        case 2:
            let call = try #require(try pair.call("Echo.items", RPCMessage(utf8: text), kind: .stream).call)
            pair.caller.finish(call)
            streams.append(call)
        default: tokens[try pair.echo(RPCMessage(utf8: text)).token] = text
        }
        pair.interruption = SessionPair.Interruption.allCases.randomElement(using: &random) ?? .cut
        if Bool.random(using: &random) { pair.bytesToServer = Int.random(in: 1...400, using: &random) }
        if Bool.random(using: &random) { pair.bytesToCaller = Int.random(in: 1...400, using: &random) }
        if Int.random(in: 0..<3, using: &random) == 0 { pair.run() }
        if Int.random(in: 0..<5, using: &random) == 0 {
            pair.now = pair.now + RPCSession.acknowledgeDelay
            pair.caller.handleTimeout(now: pair.now)
            pair.server.handleTimeout(now: pair.now)
        }
    }
    pair.bytesToServer = nil
    pair.bytesToCaller = nil
    pair.run()
    for (token, text) in tokens.sorted(by: { $0.key < $1.key }) {
        #expect(try pair.result(of: token)?.text == text)
        #expect(pair.endings[token] == 1)
    }
    for call in streams { #expect(pair.takeAll(call).texts == (0..<20).map { "\($0)" }) }
    #expect(pair.runs.count == 200)
    #expect(pair.runs.values.allSatisfy { $0 == 1 })
}

@Test func aSessionThatIsNotTakenUpInTimeEndsItsCalls() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let running = try pair.call("Echo.hang", "running")
    pair.run()
    pair.cut()
    pair.isConnected = false
    let waiting = try pair.echo("waiting")
    pair.now = pair.now + RPCLimits().resumeWindow
    pair.caller.handleTimeout(now: pair.now)
    pair.server.handleTimeout(now: pair.now)
    pair.drain()
    #expect(pair.error(of: running.token)?.code == .unavailable)
    #expect(pair.error(of: running.token)?.outcome == .maybeExecuted)
    #expect(pair.error(of: waiting.token)?.outcome == .notSent)
    #expect(pair.lost != nil)
    #expect(pair.cancelled.count == 1)
}

/// Whoever knows of another peer does not wait for this one to come back.
@Test func callsThatCanMoveEndWhenTheConnectionIsLost() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let patient = try pair.call("Echo.hang", "patient")
    let idempotent = try pair.call("Echo.hang", "idempotent", whenCutOff: .end)
    let once = try pair.call("Echo.hang", "once", whenCutOff: .endIfNotSent)
    pair.run()
    // The stream takes nothing more, so that what comes now is not sent.
    while pair.caller.mayEncode(pair.caller.lane(.activation)) {
        _ = try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 50_000))))
    }
    let unsent = try pair.call("Echo.hang", "unsent", whenCutOff: .endIfNotSent)
    pair.cut()
    pair.drain()
    #expect(pair.error(of: idempotent.token)?.code == .unavailable)
    #expect(pair.error(of: idempotent.token)?.outcome == .maybeExecuted)
    #expect(pair.error(of: unsent.token)?.outcome == .notSent)
    #expect(pair.endings[once.token] == nil && pair.endings[patient.token] == nil)
    // Until there is another connection, nothing that can go elsewhere is begun here.
    let refused = #expect(throws: RPCError.self) { try pair.call("Echo.echo", "late", whenCutOff: .endIfNotSent) }
    #expect(refused?.outcome == .notSent)
    pair.run()
    // The server hears of what was given up; the rest goes on where it was.
    #expect(pair.cancelled.count == 1)
    #expect(pair.runs["unsent"] == nil)
    for call in pair.running { pair.finish(call, .success("done")) }
    pair.run()
    #expect(try pair.result(of: once.token)?.text == "done")
    #expect(try pair.result(of: patient.token)?.text == "done")
    #expect(try pair.call("Echo.echo", "again", whenCutOff: .endIfNotSent).call != nil)
}

@Test func aServerThatForgotTheSessionEndsItsCalls() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let running = try pair.call("Echo.hang", "running")
    pair.run()
    pair.cut()
    let waiting = try pair.echo("waiting")
    pair.caller.openLink(.activation)
    _ = pair.caller.nextOutput(.activation)
    pair.caller.receive(RPCWelcome(status: .unknownSession).encoded, on: .activation, now: pair.now)
    pair.drain()
    #expect(pair.error(of: running.token)?.outcome == .maybeExecuted)
    #expect(pair.error(of: waiting.token)?.outcome == .notSent)
}

@Test func aWelcomeThatCannotBeEndsTheSession() throws {
    let pair = SessionPair()
    try pair.echo("x")
    pair.caller.openLink(.activation)
    _ = pair.caller.nextOutput(.activation)
    let welcome = RPCWelcome(status: .welcome, receivedCount: 7, callLimit: 10, messageLimit: 10)
    pair.caller.receive(welcome.encoded, on: .activation, now: pair.now)
    #expect(pair.caller.failure?.message.contains("7 frames") == true)
}

@Test func aHelloThatCannotBeEndsTheSession() {
    let server = RPCSession(role: .server, id: RPCSessionID(high: 1, low: 2), limits: RPCLimits())
    let hello = RPCHello(session: server.id, lane: .bulk, isResumed: true, receivedCount: 3, link: 1)
    #expect(!server.acceptLink(hello))
    #expect(server.failure?.message.contains("3 frames") == true)
}

/// Two streams on two connections: the hello of the first comes when the second is in use already.
@Test func aStreamThatComesAfterItsSuccessorIsNotTaken() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let running = try pair.call("Echo.hang", "running")
    pair.run()
    pair.caller.openLink(.activation)
    let first = try #require(pair.caller.nextOutput(.activation))
    pair.move()
    pair.run()
    let (late, _) = try #require(try RPCHello.decode(first.span))
    #expect(!pair.server.acceptLink(late))
    #expect(pair.server.failure == nil)
    let served = try #require(pair.running.first)
    pair.finish(served, .success("done"))
    pair.run()
    #expect(try pair.result(of: running.token)?.text == "done")
}

@Test func aLaneStopsSendingToAPeerThatAcknowledgesNothing() throws {
    var limits = RPCLimits()
    limits.unacknowledgedFrames = 10
    let pair = SessionPair(limits: limits)
    try pair.echo("first")
    pair.run()
    // The server's side is silent from now on: everything that the caller has goes nowhere.
    for index in 0..<50 { try pair.echo(RPCMessage(utf8: "\(index)")) }
    var sent = 0
    while let bytes = pair.caller.nextOutput(.activation) { sent += bytes.count }
    let lane = pair.caller.lane(.activation)
    #expect(lane.log.unacknowledgedCount == 10)
    #expect(lane.ready.count == 41)
    #expect(sent > 0)
    // When the connection comes back, so do the calls.
    pair.cut()
    pair.run()
    #expect(pair.runs.count == 51)
}

@Test func aDrainingServerFinishesWhatItHasAndTakesNothingNew() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let running = try pair.call("Echo.hang", "running")
    pair.run()
    let crossing = try pair.echo("crossing")
    pair.server.drain()
    pair.run()
    #expect(pair.error(of: crossing.token)?.code == .unavailable)
    #expect(pair.error(of: crossing.token)?.outcome == .notSent)
    let refused = #expect(throws: RPCError.self) { try pair.echo("late") }
    #expect(refused?.outcome == .notSent)
    let served = try #require(pair.running.first)
    pair.finish(served, .success("done"))
    pair.run()
    #expect(try pair.result(of: running.token)?.text == "done")
}
