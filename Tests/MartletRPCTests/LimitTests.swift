import MartletCore
import Testing

@testable import MartletRPC

/// A server's session that has been greeted, for frames made by hand.
private func server(_ limits: RPCLimits = RPCLimits()) -> RPCSession {
    let session = RPCSession(role: .server, id: RPCSessionID(high: 1, low: 2), limits: limits)
    _ = session.acceptLink(
        RPCHello(session: session.id, lane: .activation, isResumed: false, receivedCount: 0, link: 1))
    _ = session.nextOutput(.activation)
    return session
}

private func encode(_ frame: RPCFrame, _ payload: [UInt8] = []) -> Bytes {
    var room = [UInt8](repeating: 0, count: frame.headerBound)
    let size = room.withUnsafeMutableBytes { frame.write(to: $0) }
    return Bytes(Array(room[..<size]) + payload)
}

private func callFrame(_ id: Int, total: Int = 0, fragment: Int = 0, ends: Bool = true, method: Int = 0) -> RPCFrame {
    var header = RPCCallHeader(call: id, method: method, methodName: method == 0 && id == 1 ? "Echo.echo" : nil)
    header.message = RPCMessageHeader(total: total, fragment: fragment)
    header.ends = ends
    return .call(header)
}

private func feed(_ session: RPCSession, _ frames: (RPCFrame, [UInt8])...) {
    for (frame, payload) in frames {
        session.receive(encode(frame, payload), on: .activation, now: Instant(nanoseconds: 1))
    }
}

@Test func moreThanItsCreditEndsTheSession() {
    let session = server()
    let piece = [UInt8](repeating: 0, count: RPCWire.fragmentLimit)
    feed(session, (callFrame(1, ends: false), []))
    // Nobody takes them, so nothing is granted.
    for _ in 0..<4 {
        feed(session, (.message(call: 1, .init(total: piece.count, fragment: piece.count), ends: false), piece))
    }
    #expect(session.failure == nil)
    feed(session, (.message(call: 1, .init(total: piece.count, fragment: piece.count), ends: false), piece))
    #expect(session.failure?.message.contains("granted") == true)
}

@Test func emptyMessagesUseCredit() {
    let session = server()
    feed(session, (callFrame(1, ends: false), []))
    for _ in 0..<RPCWire.initialCredit / RPCWire.messageCharge + 1 {
        feed(session, (.message(call: 1, .init(total: 0, fragment: 0), ends: false), []))
    }
    #expect(session.failure?.message.contains("granted") == true)
}

@Test func aMessageBeyondTheLimitFailsItsCallAlone() throws {
    var limits = RPCLimits()
    limits.messageSize = 1000
    let pair = SessionPair(limits: RPCLimits(), serverLimits: limits)
    // The caller knows the server's limit after the welcome; before that, the server says no.
    let early = try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1001))))
    pair.run()
    #expect(pair.error(of: early.token)?.code == .resourceExhausted)
    #expect(pair.error(of: early.token)?.outcome == .notSent)
    #expect(pair.error(of: early.token)?.message.contains("message size") == true)
    let error = #expect(throws: RPCError.self) {
        try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1001))))
    }
    #expect(error?.message.contains("1001") == true)
    let fitting = try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1000))))
    pair.run()
    #expect(try pair.result(of: fitting.token)?.byteCount == 1000)
}

@Test func anAnswerBeyondTheLimitIsATypedError() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let (token, _) = try pair.call("Echo.hang", "x")
    pair.run()
    pair.finish(
        try #require(pair.running.first), .success(RPCMessage(Bytes([UInt8](repeating: 0, count: (64 << 20) + 1)))))
    pair.run()
    #expect(pair.error(of: token)?.code == .resourceExhausted)
    #expect(pair.error(of: token)?.outcome == .executed)
}

@Test func callsBeyondTheLimitAreRefusedOneByOne() throws {
    var limits = RPCLimits()
    limits.callsPerSession = 3
    let pair = SessionPair(limits: RPCLimits(), serverLimits: limits)
    pair.behaviours["Echo.hang"] = .hang
    let calls = try (0..<5).map { _ in try pair.call("Echo.hang", "x").token }
    pair.run()
    #expect(pair.running.count == 3)
    #expect(calls.filter { pair.error(of: $0)?.code == .resourceExhausted }.count == 2)
    let error = #expect(throws: RPCError.self) { try pair.echo("one more") }
    #expect(error?.message.contains("calls per session (3)") == true)
    pair.finish(try #require(pair.running.first), .success("done"))
    pair.run()
    let next = try pair.echo("now")
    pair.run()
    #expect(try pair.result(of: next.token)?.text == "now")
}

@Test func handlersThatHangAfterTheirCallStillCount() throws {
    var limits = RPCLimits()
    limits.callsPerSession = 2
    let session = server(limits)
    feed(session, (callFrame(1), []), (callFrame(2), []))
    var calls: [RPCCall] = []
    while case .incoming(let call)? = session.nextEvent() {
        #expect(session.begin(call, awaitingRequest: true))
        calls.append(call)
    }
    feed(session, (.cancel(call: 1), []), (.cancel(call: 2), []))
    while session.nextOutput(.activation) != nil {}
    feed(session, (callFrame(3), []))
    #expect(session.activeCount == 3)
    while let event = session.nextEvent() {
        if case .incoming = event { Issue.record("a third handler beside two that hang") }
    }
    for call in calls { session.handlerFinished(call, .success(nil)) }
    while session.nextOutput(.activation) != nil {}
    #expect(session.activeCount == 0)
}

@Test func whatTheSessionHoldsIsBounded() {
    var limits = RPCLimits()
    limits.bufferedBytesPerSession = 1 << 20
    let session = server(limits)
    let piece = [UInt8](repeating: 0, count: RPCWire.fragmentLimit)
    // Requests that nobody takes: each within its own credit, all together beyond the session's.
    for id in 1...100 {
        feed(session, (callFrame(id, total: piece.count * 2, fragment: piece.count, method: 0), piece))
        #expect(session.usage <= 1 << 20)
    }
    #expect(session.failure == nil)
    #expect(session.activeCount > 0)
}

@Test func largeMessagesWaitForTheSessionToSpareThem() throws {
    var limits = RPCLimits()
    limits.bufferedBytesPerSession = 3 << 20
    let pair = SessionPair(limits: RPCLimits(), serverLimits: limits)
    let tokens = try (0..<6).map { index in
        try pair.echo(RPCMessage(Bytes([UInt8](repeating: UInt8(index), count: 1 << 20)))).token
    }
    pair.run()
    for (index, token) in tokens.enumerated() {
        #expect(try pair.result(of: token)?.contiguous()[0] == UInt8(index))
    }
    #expect(pair.server.usage == 0)
    #expect(pair.server.starved.isEmpty)
}

@Test func aMessageThatTheSessionCouldNeverHoldIsNotWaitedFor() throws {
    var limits = RPCLimits()
    limits.bufferedBytesPerSession = 1 << 20
    let pair = SessionPair(limits: RPCLimits(), serverLimits: limits)
    let early = try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1 << 20))))
    pair.run()
    #expect(pair.error(of: early.token)?.code == .resourceExhausted)
    let error = #expect(throws: RPCError.self) {
        try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1 << 20))))
    }
    #expect(error?.code == .resourceExhausted)
    let fitting = try pair.echo(RPCMessage(Bytes([UInt8](repeating: 1, count: 1_000_000))))
    pair.run()
    #expect(try pair.result(of: fitting.token)?.byteCount == 1_000_000)
}

@Test func namesAndMetadataBeyondTheirLimitsAreNotSent() {
    let pair = SessionPair()
    let long = #expect(throws: RPCError.self) { try pair.call(String(repeating: "x", count: 256), "x") }
    #expect(long?.code == .invalidArgument)
    let heavy = #expect(throws: RPCError.self) {
        try pair.echo("x", metadata: ["k": String(repeating: "v", count: 16 << 10)])
    }
    #expect(heavy?.code == .resourceExhausted)
    let tensor = TensorDescription(.int8, [Int](repeating: 1, count: 17))
    let shape = #expect(throws: RPCError.self) { try pair.echo(RPCMessage([1], tensor: tensor)) }
    #expect(shape?.code == .invalidArgument)
}

@Test func moreMethodsThanTheTableHoldsAreNamedEachTime() throws {
    let pair = SessionPair()
    for index in 0..<RPCWire.methodLimit + 10 {
        pair.behaviours["Echo.m\(index)"] = .echo
        let first = try pair.call("Echo.m\(index)", "x")
        let second = try pair.call("Echo.m\(index)", "x")
        pair.run()
        #expect(try pair.result(of: first.token)?.text == "x")
        #expect(try pair.result(of: second.token)?.text == "x")
    }
    #expect(pair.server.lane(.activation).methods.count == RPCWire.methodLimit)
}

@Test(arguments: [
    RPCFrame.result(call: 1, nil), .goAway, .failure(call: 1, RPCError(.unknown, "")), .acknowledge(5),
    .call(RPCCallHeader(call: 1, method: 3)), .call(RPCCallHeader(call: 17_000, method: 0, methodName: "a.b")),
])
func framesThatCallersDoNotSendEndTheSession(frame: RPCFrame) {
    let session = server()
    feed(session, (frame, []))
    #expect(session.failure?.message.hasPrefix("the peer broke the RPC protocol") == true)
}

@Test func aNumberInUseEndsTheSession() {
    let session = server()
    feed(session, (callFrame(1), []), (callFrame(2, ends: false), []), (callFrame(2), []))
    #expect(session.failure?.message.contains("call 2") == true)
}

@Test func aMethodNumberThatIsNamedTwiceEndsTheSession() {
    let session = server()
    feed(session, (callFrame(1), []), (.call(RPCCallHeader(call: 2, method: 0, methodName: "Other.method")), []))
    #expect(session.failure?.message.contains("named twice") == true)
}

@Test func framesForCallsThatAreOverArePassedOver() {
    let session = server()
    feed(
        session, (.more(call: 9, byteCount: 3), [1, 2, 3]), (.end(call: 9), []), (.cancel(call: 9), []),
        (.credit(call: 9, byteCount: 5), []))
    #expect(session.failure == nil)
    #expect(session.activeCount == 0)
}
