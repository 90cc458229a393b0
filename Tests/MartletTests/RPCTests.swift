import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization
import Testing

@testable import Martlet

/// Two nodes over real sockets, of which `b` serves.
private struct CallPair {
    let nodes: NodePair
    var a: Node { nodes.a }
    var b: Node { nodes.b }
    var peer: PeerID { nodes.b.peerID }

    init(
        _ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }, _ build: (inout RPCService) -> Void
    ) async throws {
        nodes = try await NodePair(configure)
        nodes.b.rpc.register("Test", build)
        try await nodes.connect()
    }

    func stop() async { await nodes.stop() }
}

private func error(of body: () async throws -> some Any) async -> RPCError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? RPCError
    }
}

@Test func aCallIsAnsweredByAnotherNode() async throws {
    let pair = try await CallPair { service in
        service.unary("echo") { request, context in request }
    }
    let tensor = TensorDescription(.float32, [2, 2])
    let reply = try await pair.a.call(pair.peer, "Test.echo", RPCMessage(Bytes([UInt8](1...16)), tensor: tensor))
    #expect(reply.contiguous() == Bytes([UInt8](1...16)))
    #expect(reply.tensor == tensor)
    await pair.stop()
}

@Test func manyCallsAtOnceEachGetTheirOwnAnswer() async throws {
    let pair = try await CallPair { service in
        service.unary("echo") { request, context in request }
    }
    try await withThrowingTaskGroup(of: Bool.self) { group in
        for index in 0..<1000 {
            group.addTask {
                let text = "call \(index)"
                return try await pair.a.call(
                    pair.peer, "Test.echo", RPCMessage(utf8: text),
                    options: .init(priority: RPCPriority.allCases[index % 3])
                ).text == text
            }
        }
        for try await isOwn in group { #expect(isOwn) }
    }
    await pair.stop()
}

@Test func sixteenMegabytesCrossBothWays() async throws {
    let pair = try await CallPair { service in
        service.unary("echo") { request, context in request }
    }
    var random = RandomSource(seed: 16)
    let bytes = Bytes(random.bytes(16 << 20))
    let reply = try await pair.a.call(pair.peer, "Test.echo", RPCMessage(bytes), options: .init(priority: .bulk))
    #expect(reply.contiguous() == bytes)
    await pair.stop()
}

@Test func theContextSaysWhoCallsAndWhatFor() async throws {
    let pair = try await CallPair { service in
        service.unary("who") { request, context in
            RPCMessage(
                utf8: "\(context.peer) \(context.method) \(context.metadata["trace"] ?? "-") \(context.priority)")
        }
    }
    let reply = try await pair.a.call(
        pair.peer, "Test.who", options: .init(deadline: .seconds(30), priority: .control, metadata: ["trace": "7"]))
    #expect(reply.text == "\(pair.a.peerID) Test.who 7 control")
    await pair.stop()
}

@Test func whatAHandlerThrowsIsATypedError() async throws {
    struct Private: Error { let secret = "do not show" }
    let pair = try await CallPair { service in
        service.unary("known") { _, _ in throw RPCError(.notFound, "no such model", details: [7]) }
        service.unary("unknown") { _, _ in throw Private() }
    }
    let known = await error { try await pair.a.call(pair.peer, "Test.known") }
    #expect(known == RPCError(.notFound, "no such model", details: [7], outcome: .executed))
    let unknown = await error { try await pair.a.call(pair.peer, "Test.unknown") }
    #expect(unknown?.code == .unknown)
    #expect(unknown?.message.contains("do not show") == false)
    let missing = await error { try await pair.a.call(pair.peer, "Test.missing") }
    #expect(missing?.code == .unimplemented)
    #expect(missing?.outcome == .notSent)
    await pair.stop()
}

@Test func onlyThoseAllowedMayCall() async throws {
    let pair = try await CallPair { service in
        service.unary("closed", authorize: .peers([])) { request, _ in request }
        service.unary("token", authorize: .check { _, metadata in metadata["token"] == "right" }) { request, _ in
            request
        }
    }
    for (method, metadata) in [("Test.closed", RPCMetadata()), ("Test.token", ["token": "wrong"])] {
        let refused = await error { try await pair.a.call(pair.peer, method, options: .init(metadata: metadata)) }
        #expect(refused?.code == .permissionDenied)
        #expect(refused?.outcome == .notSent)
    }
    let reply = try await pair.a.call(pair.peer, "Test.token", "in", options: .init(metadata: ["token": "right"]))
    #expect(reply.text == "in")
    await pair.stop()
}

@Test func aServerStreamOfManyItemsReachesASlowReaderWhole() async throws {
    let pair = try await CallPair { service in
        service.serverStreaming("count") { request, writer, _ in
            for index in 0..<(Int(request.text) ?? 0) {
                try await writer.write(RPCMessage(utf8: "\(index) " + String(repeating: ".", count: 500)))
            }
        }
        service.unary("ping") { request, _ in request }
    }
    let call = try await pair.a.openCall(pair.peer, "Test.count", "5000")
    // Nothing is read while other calls go back and forth.
    for _ in 0..<100 { _ = try await pair.a.call(pair.peer, "Test.ping") }
    var expected = 0
    for try await item in call {
        guard item.text.hasPrefix("\(expected) ") else { break }
        expected += 1
    }
    #expect(expected == 5000)
    await pair.stop()
}

@Test func messagesGoBothWaysAtOnce() async throws {
    let pair = try await CallPair { service in
        service.bidirectional("upper") { messages, writer, _ in
            for try await message in messages { try await writer.write(RPCMessage(utf8: message.text.uppercased())) }
        }
        service.clientStreaming("sum") { messages, _ in
            var sum = 0
            for try await message in messages { sum += message.byteCount }
            return RPCMessage(utf8: "\(sum)")
        }
    }
    let call = try await pair.a.openCall(pair.peer, "Test.upper")
    for word in ["one", "two"] {
        try await call.send(RPCMessage(utf8: word))
        #expect(try await call.next()?.text == word.uppercased())
    }
    call.finish()
    #expect(try await call.next() == nil)

    let sum = try await pair.a.openCall(pair.peer, "Test.sum")
    for _ in 0..<100 { try await sum.send(RPCMessage(Bytes([UInt8](repeating: 1, count: 50_000)))) }
    sum.finish()
    #expect(try await sum.next()?.text == "5000000")
    await pair.stop()
}

@Test func aOneWayMessageIsHandled() async throws {
    let (received, continuation) = AsyncStream<String>.makeStream()
    let pair = try await CallPair { service in
        service.oneWay("note") { message, _ in continuation.yield(message.text) }
    }
    for index in 0..<10 { try await pair.a.send(pair.peer, "Test.note", RPCMessage(utf8: "\(index)")) }
    var texts: Set<String> = []
    for await text in received {
        texts.insert(text)
        if texts.count == 10 { break }
    }
    #expect(texts == Set((0..<10).map { "\($0)" }))
    await pair.stop()
}

@Test func aBlockedHandlerHoldsUpNobodyElse() async throws {
    let gate = BlockingGate()
    let pair = try await CallPair { service in
        service.unary("block") { request, _ in
            gate.wait()
            return request
        }
        service.unary("echo") { request, _ in request }
    }
    let blocked = (0..<3).map { _ in Task { try await pair.a.call(pair.peer, "Test.block", "done") } }
    for _ in 0..<200 { #expect(try await pair.a.call(pair.peer, "Test.echo", "x").text == "x") }
    #expect(gate.openAndCountTimeouts() == 0)
    for call in blocked { #expect(try await call.value.text == "done") }
    await pair.stop()
}

@Test func cancellingTheTaskEndsTheCallAndItsHandler() async throws {
    let (events, continuation) = AsyncStream<String>.makeStream()
    let pair = try await CallPair { service in
        service.unary("wait") { request, _ in
            continuation.yield("started")
            do { try await Task.sleep(for: .seconds(60)) } catch { continuation.yield("cancelled") }
            return request
        }
    }
    var iterator = events.makeAsyncIterator()
    let call = Task { try await pair.a.call(pair.peer, "Test.wait") }
    #expect(await iterator.next() == "started")
    call.cancel()
    let ended = await error { try await call.value }
    #expect(ended?.code == .cancelled)
    #expect(ended?.outcome == .maybeExecuted)
    #expect(await iterator.next() == "cancelled")
    await pair.stop()
}

@Test func aDeadlineEndsTheCallOnBothSides() async throws {
    let hasStarted = Atomic<Bool>(false)
    let (events, continuation) = AsyncStream<String>.makeStream()
    let pair = try await CallPair { service in
        service.unary("wait") { request, _ in
            hasStarted.store(true, ordering: .releasing)
            do { try await Task.sleep(for: .seconds(600)) } catch { continuation.yield("cancelled") }
            return request
        }
    }
    // On a busy machine the first deadlines may pass before the call is there.
    var deadline = Duration.milliseconds(20)
    while !hasStarted.load(ordering: .acquiring) {
        let late = await error { [deadline] in
            try await pair.a.call(pair.peer, "Test.wait", options: .init(deadline: deadline))
        }
        #expect(late?.code == .deadlineExceeded)
        deadline = deadline * 2
    }
    var iterator = events.makeAsyncIterator()
    #expect(await iterator.next() == "cancelled")
    await pair.stop()
}

@Test func aPeerThatCannotBeReachedWasNotSentTo() async throws {
    let node = try await NodePair.node()
    let stranger = KeyPair.generate().peerID
    let failed = await error { try await node.call(stranger, "Test.echo") }
    #expect(failed?.code == .unavailable)
    #expect(failed?.outcome == .notSent)
    await node.stop()
}

@Test func everyCallEndsWhenThePeerStops() async throws {
    let started = Atomic<Int>(0)
    let (events, continuation) = AsyncStream<Void>.makeStream()
    let pair = try await CallPair { service in
        service.unary("hang") { request, _ in
            if started.add(1, ordering: .relaxed).newValue == 1000 { continuation.finish() }
            try await Task.sleep(for: .seconds(600))
            return request
        }
    }
    let calls = (0..<1000).map { _ in Task { try await pair.a.call(pair.peer, "Test.hang") } }
    for await _ in events {}
    await pair.b.stop()
    for call in calls {
        let ended = await error { try await call.value }
        #expect(ended?.outcome == .maybeExecuted)
    }
    await pair.a.stop()
}

@Test func callsGoOnOverAnotherConnection() async throws {
    let runs = Atomic<Int>(0)
    let (events, continuation) = AsyncStream<Void>.makeStream()
    let gate = Mutex(false)
    let pair = try await CallPair { service in
        service.unary("slow") { request, _ in
            if runs.add(1, ordering: .relaxed).newValue == 100 { continuation.finish() }
            while !gate.withLock(\.self) { try await Task.sleep(for: .milliseconds(5)) }
            return request
        }
    }
    let calls = (0..<100).map { index in
        Task { try await pair.a.call(pair.peer, "Test.slow", RPCMessage(utf8: "\(index)")).text == "\(index)" }
    }
    for await _ in events {}
    // The connection goes, and the caller makes another to the address that it knows.
    try await pair.b.disconnect(from: pair.a.peerID)
    gate.withLock { $0 = true }
    for call in calls { #expect(try await call.value) }
    #expect(runs.load(ordering: .relaxed) == 100)
    await pair.stop()
}

@Test func servicesAreListed() async throws {
    let pair = try await CallPair { service in
        service.unary("echo") { request, _ in request }
        service.bidirectional("chat") { _, _, _ in }
    }
    let methods = try await pair.a.services(of: pair.peer)
    #expect(methods.contains(RPCMethodDescription(path: "Test.echo", kind: "unary")))
    #expect(methods.contains(RPCMethodDescription(path: "Test.chat", kind: "bidirectional")))
    await pair.stop()
}

@Test func aSessionThatIsNotUsedLetsItsConnectionGo() async throws {
    let pair = try await CallPair {
        $0.rpc.idleSessionLifetime = .milliseconds(100)
    } _: { service in
        service.unary("echo") { request, _ in request }
    }
    for _ in 0..<2 {
        #expect(try await pair.a.call(pair.peer, "Test.echo", "x").text == "x")
        #expect(pair.a.rpc.linkCount <= 1)
        while pair.a.rpc.linkCount + pair.b.rpc.linkCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
    }
    await pair.stop()
}
