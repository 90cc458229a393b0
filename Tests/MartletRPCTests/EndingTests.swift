import MartletCore
import Testing

@testable import MartletRPC

@Test func aCallThatWasNotSentIsCancelledWithoutAWord() throws {
    let pair = SessionPair()
    pair.isConnected = false
    let (token, call) = try pair.echo("never")
    pair.caller.cancel(try #require(call))
    pair.drain()
    #expect(pair.error(of: token)?.code == .cancelled)
    #expect(pair.error(of: token)?.outcome == .notSent)
    pair.isConnected = true
    pair.run()
    #expect(pair.cancelled.isEmpty)
}

@Test func aCancelledCallStopsItsHandlerAndGivesItsNumberBack() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, call) = try pair.call("Echo.hang", "x")
    pair.run()
    pair.caller.cancel(try #require(call))
    pair.drain()
    #expect(pair.error(of: token)?.outcome == .maybeExecuted)
    // The number is in use until the server has answered.
    #expect(pair.caller.activeCount == 1)
    pair.run()
    #expect(pair.cancelled.count == 1)
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
    #expect(pair.endings[token] == 1)
}

@Test func anAnswerThatCrossesACancellationIsPassedOver() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, call) = try pair.call("Echo.hang", "x")
    pair.run()
    let served = try #require(pair.running.first)
    pair.finish(served, .success("answer"))
    pair.caller.cancel(try #require(call))
    pair.run()
    #expect(pair.error(of: token)?.code == .cancelled)
    #expect(pair.endings[token] == 1)
    #expect(pair.caller.activeCount == 0)
    #expect(pair.lost == nil)
    // The number serves the next call.
    let next = try pair.echo("next")
    pair.run()
    #expect(try pair.result(of: next.token)?.text == "next")
}

@Test func aCancellationEndsALargeAnswerInTheMiddle() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, call) = try pair.call("Echo.hang", "x")
    pair.run()
    let served = try #require(pair.running.first)
    pair.finish(served, .success(RPCMessage(Bytes([UInt8](repeating: 5, count: 10 << 20)))))
    // Some of it is on its way; the rest is not sent any more.
    for bytes in pair.server.outputs(.activation) { pair.caller.receive(bytes, on: .activation, now: pair.now) }
    let before = pair.sentToCaller
    pair.caller.cancel(try #require(call))
    pair.run()
    #expect(pair.sentToCaller - before < 1000)
    #expect(pair.endings[token] == 1)
    #expect(pair.caller.activeCount == 0)
    #expect(pair.caller.usage == 0)
    #expect(pair.server.usage == 0)
}

/// What was under way when the caller gave up comes in several frames, after each of which the session goes on.
@Test(arguments: 1...8)
func framesOfAnAnswerThatCrossACancellationArePassedOver(_ received: Int) throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, call) = try pair.call("Echo.hang", "x")
    pair.run()
    let served = try #require(pair.running.first)
    pair.finish(served, .success(RPCMessage(Bytes([UInt8](repeating: 5, count: 10 << 20)))))
    let crossing = pair.server.outputs(.activation)
    #expect(crossing.count > received)
    for bytes in crossing.prefix(received) { pair.caller.receive(bytes, on: .activation, now: pair.now) }
    pair.caller.cancel(try #require(call))
    for bytes in crossing.dropFirst(received) { pair.caller.receive(bytes, on: .activation, now: pair.now) }
    pair.run()
    #expect(pair.lost == nil)
    #expect(pair.endings[token] == 1)
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
}

/// The rest of a request and its cancellation come together: no handler runs on a message that was dropped.
@Test func aCallThatIsCancelledBeforeItsHandlerStartsDoesNotRun() throws {
    let pair = SessionPair()
    let large = RPCMessage(Bytes([UInt8](repeating: 7, count: 100_000)))
    let first = try pair.echo(large)
    pair.run()
    let again = try #require(try pair.echo(large).call)
    var bytes = pair.caller.outputs(.activation)
    pair.caller.cancel(again)
    bytes += pair.caller.outputs(.activation)
    // The first piece alone begins the call.
    pair.server.receive(bytes[0], on: .activation, now: pair.now)
    pair.server.receive(bytes[1], on: .activation, now: pair.now)
    pair.drain()
    for part in bytes.dropFirst(2) { pair.server.receive(part, on: .activation, now: pair.now) }
    pair.run()
    #expect(try pair.result(of: first.token) == large)
    #expect(pair.runs == ["100000": 1])
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
    #expect(pair.lost == nil)
}

/// The last messages, the end and the cancellation come together: what is dropped must not look like all there was.
@Test func aHandlerThatStillReadsLearnsOfACancellationAfterTheEnd() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.collect"] = .collect
    let call = try #require(try pair.call("Echo.collect", "a", kind: .stream).call)
    pair.run()
    _ = try pair.caller.send("b", on: call)
    pair.caller.finish(call)
    var bytes = pair.caller.outputs(.activation)
    pair.caller.cancel(call)
    bytes += pair.caller.outputs(.activation)
    for part in bytes { pair.server.receive(part, on: .activation, now: pair.now) }
    pair.run()
    #expect(pair.runs == [:])
    #expect(pair.cancelled.count == 1)
    #expect(pair.server.activeCount == 0)
    #expect(pair.lost == nil)
}

@Test func aDeadlineEndsTheCallAtBothEnds() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, _) = try pair.call("Echo.hang", "x", deadline: .milliseconds(100))
    pair.run()
    let served = try #require(pair.running.first)
    #expect(served.deadline.map { $0 - pair.now } == .milliseconds(101))
    pair.now = pair.now + .milliseconds(100)
    #expect(pair.caller.deadline.map { $0 <= pair.now } == true)
    pair.caller.handleTimeout(now: pair.now)
    pair.drain()
    #expect(pair.error(of: token)?.code == .deadlineExceeded)
    #expect(pair.error(of: token)?.outcome == .maybeExecuted)
    // The server finds out by itself.
    pair.now = pair.now + .milliseconds(1)
    pair.server.handleTimeout(now: pair.now)
    pair.drain()
    #expect(pair.cancelled.count == 1)
    pair.run()
    #expect(pair.caller.activeCount == 0)
    #expect(pair.endings[token] == 1)
}

@Test func anAnswerThatCrossesTheDeadlineIsPassedOver() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, _) = try pair.call("Echo.hang", "x", deadline: .milliseconds(100))
    pair.run()
    pair.finish(try #require(pair.running.first), .success("late"))
    pair.now = pair.now + .milliseconds(100)
    pair.caller.handleTimeout(now: pair.now)
    pair.run()
    #expect(pair.error(of: token)?.code == .deadlineExceeded)
    #expect(pair.endings[token] == 1)
    #expect(pair.caller.activeCount == 0)
}

@Test func aDeadlineThatHasPassedIsNotSent() throws {
    let pair = SessionPair()
    let error = #expect(throws: RPCError.self) { try pair.echo("x", deadline: .zero) }
    #expect(error?.code == .deadlineExceeded)
    #expect(error?.outcome == .notSent)
}

@Test func aWaitingOneWayCallHasADeadline() throws {
    var limits = RPCLimits()
    limits.unacknowledgedFrames = 1
    let pair = SessionPair(limits: limits)
    pair.isConnected = false
    try pair.echo("in front")
    let (token, _) = try pair.echo("waits", kind: .oneWay, deadline: .milliseconds(5))
    pair.now = pair.now + .milliseconds(5)
    pair.caller.handleTimeout(now: pair.now)
    pair.drain()
    #expect(pair.error(of: token)?.code == .deadlineExceeded)
    #expect(pair.error(of: token)?.outcome == .notSent)
}

/// Everything that can end a call, in every order that two of them can come in.
@Test(arguments: 0..<200 as Range<UInt64>)
func everyCallEndsOnceWhateverCrosses(seed: UInt64) throws {
    var random = RandomSource(seed: seed)
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    var calls: [(token: Int, call: RPCCall)] = []
    for _ in 0..<300 {
        switch Int.random(in: 0..<7, using: &random) {
        case 0, 1:
            let deadline: Duration? = Bool.random(using: &random) ? .milliseconds(20) : nil
            let priority = RPCPriority.allCases[Int.random(in: 0..<3, using: &random)]
            let (token, call) = try pair.call("Echo.hang", "x", priority: priority, deadline: deadline)
            calls.append((token, try #require(call)))
        case 2: if let call = calls.randomElement(using: &random) { pair.caller.cancel(call.call) }
        case 3: if let call = pair.running.randomElement(using: &random) { pair.finish(call, .success("done")) }
        case 4:
            if let call = pair.running.randomElement(using: &random) {
                pair.finish(call, .failure(RPCError(.aborted, "no")))
            }
        case 5:
            pair.now = pair.now + .milliseconds(7)
            pair.caller.handleTimeout(now: pair.now)
            pair.server.handleTimeout(now: pair.now)
        default:
            if Int.random(in: 0..<4, using: &random) == 0 { pair.bytesToServer = 30 }
            pair.run()
        }
        pair.drain()
    }
    pair.bytesToServer = nil
    pair.run()
    while let call = pair.running.first { pair.finish(call, .success("end")) }
    pair.run()
    #expect(pair.lost == nil)
    for (token, _) in calls { #expect(pair.endings[token] == 1) }
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
    #expect(pair.caller.usage == 0)
    #expect(pair.server.usage == 0)
}
