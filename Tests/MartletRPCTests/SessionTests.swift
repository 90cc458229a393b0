import MartletCore
import Testing

@testable import MartletRPC

@Test func aUnaryCallIsAnswered() throws {
    let pair = SessionPair()
    let (token, _) = try pair.echo("hello")
    pair.run()
    #expect(try pair.result(of: token)?.text == "hello")
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
    #expect(pair.server.usage == 0)
}

@Test func aSmallCallCostsFewBytesBeyondItsMessages() throws {
    let pair = SessionPair()
    let message = RPCMessage(Bytes(count: 128) { $0.initializeMemory(as: UInt8.self, repeating: 7) })
    try pair.echo(message)
    pair.run()
    let (up, down) = (pair.sentToServer, pair.sentToCaller)
    try pair.echo(message)
    pair.run()
    #expect(pair.sentToServer - up <= 128 + 8)
    #expect(pair.sentToCaller - down <= 128 + 8)
}

@Test func callsOfOneLaneArriveInTheirOrder() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    for index in 0..<100 { try pair.call("Echo.hang", RPCMessage(utf8: "\(index)")) }
    pair.run()
    #expect(pair.running.map { $0.id } == Array(1...100))
}

@Test(arguments: [0, 1, 2048, 2049, 65_536, 65_537, 294_912, 1 << 20, 5_000_001])
func messagesOfAnySizeCrossUnchanged(size: Int) throws {
    let pair = SessionPair()
    var random = RandomSource(seed: UInt64(size))
    let bytes = Bytes(random.bytes(size))
    // In pieces as they come off the network.
    var pieces: [Bytes] = []
    var rest = bytes
    while !rest.isEmpty { pieces.append(rest.takeFirst(min(rest.count, 16_000))) }
    let tensor = TensorDescription(.uint8, [size])
    let (token, _) = try pair.echo(RPCMessage(pieces: pieces, tensor: tensor))
    pair.run()
    let reply = try #require(try pair.result(of: token))
    #expect(reply.contiguous() == bytes)
    #expect(reply.tensor == tensor)
    #expect(pair.server.usage == 0)
    #expect(pair.caller.usage == 0)
}

@Test func bytesMayComeOneByOne() throws {
    let pair = SessionPair()
    pair.pieceSize = 1
    let (token, _) = try pair.echo(RPCMessage(utf8: "one by one"), metadata: ["name": "value"])
    pair.run()
    #expect(try pair.result(of: token)?.text == "one by one")
}

@Test func anErrorOfTheHandlerReachesTheCaller() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.fail"] = .fail(RPCError(.notFound, "no such model", details: [1, 2, 3]))
    let (token, _) = try pair.call("Echo.fail", "x")
    pair.run()
    let error = try #require(pair.error(of: token))
    #expect(error.code == .notFound)
    #expect(error.message == "no such model")
    #expect(error.details == [1, 2, 3])
    #expect(error.outcome == .executed)
}

@Test func aRefusedCallWasNotSent() throws {
    let pair = SessionPair()
    let (token, _) = try pair.call("Nobody.there", "x")
    pair.run()
    #expect(pair.error(of: token)?.code == .unimplemented)
    #expect(pair.error(of: token)?.outcome == .notSent)
}

@Test func anErrorTooLongIsCutAndSaysSo() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.fail"] = .fail(
        RPCError(.unknown, String(repeating: "ä", count: 5000), details: Bytes([UInt8](repeating: 0, count: 70_000))))
    let (token, _) = try pair.call("Echo.fail", "x")
    pair.run()
    let error = try #require(pair.error(of: token))
    #expect(error.message.hasPrefix("details of 70000 bytes were left out"))
    #expect(pair.lost == nil)
}

@Test func aServerStreamIsReadToItsEnd() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.items"] = .items(5)
    let call = try #require(try pair.call("Echo.items", "go", kind: .stream).call)
    pair.caller.finish(call)
    pair.run()
    let (texts, end) = pair.takeAll(call)
    #expect(texts == ["0", "1", "2", "3", "4"])
    guard case .end = end else { return #expect(Bool(false), "the stream has not ended") }
}

@Test func messagesBeforeAnErrorAreNotLost() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let call = try #require(try pair.call("Echo.hang", "go", kind: .stream).call)
    pair.run()
    let served = try #require(pair.running.first)
    _ = try pair.server.send("first", on: served)
    pair.finish(served, .failure(RPCError(.aborted, "half way")))
    pair.run()
    let (texts, end) = pair.takeAll(call)
    #expect(texts == ["first"])
    guard case .failed(let error) = end else { return #expect(Bool(false), "no error") }
    #expect(error.code == .aborted)
}

@Test func aClientStreamIsCollected() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.collect"] = .collect
    let call = try #require(try pair.call("Echo.collect", nil, kind: .stream).call)
    for text in ["a", "b", "c"] { _ = try pair.caller.send(RPCMessage(utf8: text), on: call) }
    pair.caller.finish(call)
    pair.run()
    #expect(pair.takeAll(call).texts == ["a,b,c"])
}

@Test func aUnaryCallOfAStreamingMethodIsATypedError() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.items"] = .items(2)
    let (token, _) = try pair.call("Echo.items", "go")
    pair.run()
    #expect(pair.error(of: token)?.code == .unimplemented)
}

@Test func aSlowReaderHoldsItsWriterBackAndLosesNothing() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let call = try #require(try pair.call("Echo.hang", "go", kind: .stream).call)
    pair.run()
    let served = try #require(pair.running.first)
    var written = 0
    var read: [Int] = []
    let filler = String(repeating: ".", count: 1000)
    while read.count < 5000 {
        while written < 5000, !(try pair.server.send(RPCMessage(utf8: "\(written) \(filler)"), on: served)) {
            written += 1
        }
        if written < 5000 { written += 1 }
        if written == 5000 { pair.finish(served, .success(nil)) }
        pair.run()
        // What is held for a reader that does not read: its window and the message that it ends in, and the queue there.
        #expect(pair.caller.usage <= RPCWire.initialCredit + 1100)
        #expect(served.queuedByteCount <= RPCLimits().queuedBytesPerCall + 2000 || written == 5000)
        for _ in 0..<50 {
            guard case .message(let message) = pair.caller.take(from: call, now: pair.now) else { break }
            read.append(Int(message.text.prefix { $0 != " " }) ?? -1)
        }
        pair.now = pair.now + .seconds(1)
    }
    #expect(read == Array(0..<5000))
}

@Test func aFastReaderIsGivenALargerWindow() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    let call = try #require(try pair.call("Echo.hang", "go", kind: .stream).call)
    pair.run()
    let served = try #require(pair.running.first)
    let item = RPCMessage(Bytes([UInt8](repeating: 1, count: 60_000)))
    for _ in 0..<100 {
        _ = try pair.server.send(item, on: served)
        pair.run()
        while case .message = pair.caller.take(from: call, now: pair.now) {}
        pair.now = pair.now + .milliseconds(1)
    }
    #expect(call.window == RPCLimits().callWindow)
    pair.finish(served, .success(nil))
    pair.run()
    #expect(pair.caller.usage == 0)
}

@Test func oneWayCallsAreHandedOverWithoutAnAnswer() throws {
    let pair = SessionPair()
    // The first waits for the connection, the second need not.
    let first = try pair.call("Echo.echo", "1", kind: .oneWay)
    #expect(first.call != nil)
    pair.run()
    #expect(pair.handedOver == [first.token])
    let received = pair.sentToCaller
    #expect(try pair.call("Echo.echo", "2", kind: .oneWay).call == nil)
    pair.run()
    #expect(pair.sentToCaller == received)
    #expect(pair.runs == ["1": 1, "2": 1])
    #expect(pair.server.activeCount == 0)
}

@Test func aLargeOneWayCallGivesItsNumberBack() throws {
    let pair = SessionPair()
    let (token, call) = try pair.call(
        "Echo.echo", RPCMessage(Bytes([UInt8](repeating: 3, count: 1 << 20))), kind: .oneWay)
    #expect(call != nil)
    pair.run()
    #expect(pair.handedOver == [token])
    #expect(pair.runs == ["1048576": 1])
    #expect(pair.caller.activeCount == 0)
    #expect(pair.server.activeCount == 0)
}

@Test func acknowledgedFramesAreForgotten() throws {
    let pair = SessionPair()
    for index in 0..<1000 {
        try pair.echo(RPCMessage(utf8: "\(index)"))
        pair.run()
    }
    for lane in pair.caller.lanes + pair.server.lanes {
        #expect(lane.log.unacknowledgedCount <= 2 * RPCSession.acknowledgeFrames)
        #expect(lane.log.byteCount < 4096)
    }
    // What is left is acknowledged by and by, and then nothing would be lost with the session.
    while let due = pair.caller.deadline ?? pair.server.deadline {
        pair.now = due
        pair.caller.handleTimeout(now: due)
        pair.server.handleTimeout(now: due)
        pair.run()
    }
    #expect(pair.caller.isIdle)
    #expect(pair.server.isIdle)
}

@Test func severalMessagesToAMethodOfOneAreRefusedRatherThanDropped() throws {
    let pair = SessionPair()
    pair.behaviours["Echo.hang"] = .hang
    for sendsBefore in [true, false] {
        let call = try #require(try pair.call("Echo.hang", "first", kind: .stream).call)
        if !sendsBefore { pair.run() }
        _ = try pair.caller.send("second", on: call)
        pair.run()
        guard case .failed(let error) = pair.takeAll(call).end else {
            Issue.record("a message was dropped without a word")
            continue
        }
        #expect(error.code == .invalidArgument)
        #expect(error.outcome == (sendsBefore ? .notSent : .maybeExecuted))
    }
    #expect(pair.server.activeCount == 0)
}
