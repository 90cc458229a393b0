import Martlet
import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization
import Testing

/// Two nodes over real sockets, of which `b` serves what Lattica nodes call.
private struct LatticaPair {
    let pair: NodePair
    var client: NodeLattica { pair.a.lattica }
    var server: NodeLattica { pair.b.lattica }
    var peer: PeerID { pair.b.peerID }

    init(_ configure: (NodeLattica) -> Void = { _ in }) async throws {
        pair = try await NodePair { $0.network = "/lattica/1.0.0" }
        configure(pair.a.lattica)
        configure(pair.b.lattica)
        pair.a.lattica.enable()
        pair.b.lattica.serve("Test") { service in
            service.unary("echo") { request, _ in request }
            service.unary("size") { request, _ in RPCMessage(utf8: "\(request.byteCount)") }
            service.unary("fail") { _, _ in throw RPCError(.failedPrecondition, "no model") }
            service.unary("peer") { _, context in RPCMessage(utf8: "\(context.peer)") }
            service.oneWay("note") { _, _ in }
            service.serverStreaming("count") { request, writer, _ in
                for number in 0..<(Int(request.text) ?? 0) { try await writer.write(RPCMessage(utf8: "\(number)")) }
            }
            service.serverStreaming("failing") { _, writer, _ in
                try await writer.write("one")
                throw RPCError(.aborted, "after one")
            }
            service.bidirectional("talk") { _, _, _ in }
        }
        try await pair.connect()
    }

    func stop() async { await pair.stop() }
}

private func rpcError(_ body: () async throws -> Void) async -> RPCError? {
    do {
        try await body()
        Issue.record("it did not fail")
    } catch let error as RPCError {
        return error
    } catch {
        Issue.record("\(error)")
    }
    return nil
}

private func pattern(_ count: Int) -> Bytes {
    var random = RandomSource(seed: 3)
    return Bytes(random.bytes(count))
}

@Test func unaryMethodsAreCalledInBothOfLatticasWays() async throws {
    let nodes = try await LatticaPair()
    #expect(try await nodes.client.call(nodes.peer, "Test.echo", [1, 2, 3]) == [1, 2, 3])
    #expect(try await nodes.client.call(nodes.peer, "Test.echo") == [])
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", [1, 2, 3]) == [1, 2, 3])
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo") == [])
    #expect(try await nodes.client.call(nodes.peer, "Test.note", [1]) == [])
    #expect(try await nodes.client.callStream(nodes.peer, "Test.note", [1]) == [])
    #expect(
        try await nodes.client.call(nodes.peer, "Test.peer").array == Array("\(nodes.pair.a.peerID)".utf8))
    await nodes.stop()
}

@Test func largeArgumentsAndResultsArriveWholeInBothWays() async throws {
    let nodes = try await LatticaPair()
    // More than two frames of the stream protocol.
    let large = pattern((33 << 20) + 5)
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", large) == large)
    #expect(try await nodes.client.call(nodes.peer, "Test.echo", large) == large)
    await nodes.stop()
}

@Test func itemsArriveInOrderAndEnd() async throws {
    let nodes = try await LatticaPair()
    var items: [String] = []
    for try await item in try await nodes.client.stream(nodes.peer, "Test.count", Bytes(utf8: "300")) {
        items.append(String(decoding: item.array, as: UTF8.self))
    }
    #expect(items == (0..<300).map(String.init))
    await nodes.stop()
}

@Test func aSlowReaderGetsEveryItemAndSlowsTheHandler() async throws {
    let nodes = try await LatticaPair()
    let written = Atomic(0)
    let total = 5000
    nodes.server.serve("Big") { service in
        service.serverStreaming("items") { _, writer, _ in
            let item = RPCMessage(Bytes([UInt8](repeating: 7, count: 4096)))
            for _ in 0..<total {
                try await writer.write(item)
                written.add(1, ordering: .relaxed)
            }
        }
    }
    let items = try await nodes.client.stream(nodes.peer, "Big.items")
    #expect(try await items.next() != nil)
    // Time enough for a handler that nothing holds up to write them all.
    for _ in 0..<200 { #expect(try await nodes.client.call(nodes.peer, "Test.echo", [1]) == [1]) }
    #expect(written.load(ordering: .relaxed) < total)
    var count = 1
    while try await items.next() != nil { count += 1 }
    #expect(count == total)
    await nodes.stop()
}

@Test func errorsOfHandlersReachTheCaller() async throws {
    let nodes = try await LatticaPair()
    for way in [nodes.client.call, nodes.client.callStream] {
        let error = await rpcError { _ = try await way(nodes.peer, "Test.fail", [], nil) }
        #expect(error?.message == "failedPrecondition: no model")
        #expect(error?.outcome == .executed)
    }
    var items: [Bytes] = []
    let error = await rpcError {
        for try await item in try await nodes.client.stream(nodes.peer, "Test.failing") { items.append(item) }
    }
    #expect(items == [Bytes(utf8: "one")])
    #expect(error?.message == "aborted: after one")
    await nodes.stop()
}

@Test(arguments: [
    ("Nix.echo", "Service Nix not found", "Service Nix not found"),
    ("Test.nix", "Method _handle_nix not found", "Stream method _handle_stream_nix not found"),
    ("Test.talk", "Method _handle_talk not found", "Stream method _handle_stream_talk not found"),
    ("echo", "Invalid method format", "Invalid method format"),
    ("a.b.c", "Invalid method format", "Invalid method format"),
])
func whatIsNotServedIsSaidInLatticasWords(method: String, unary: String, stream: String) async throws {
    let nodes = try await LatticaPair()
    let error = await rpcError { _ = try await nodes.client.call(nodes.peer, method) }
    #expect(error == RPCError(.unimplemented, unary, outcome: .notSent))
    let streamError = await rpcError { _ = try await nodes.client.callStream(nodes.peer, method) }
    #expect(streamError == RPCError(.unimplemented, stream, outcome: .notSent))
    let itemsError = await rpcError { _ = try await nodes.client.stream(nodes.peer, method).next() }
    #expect(itemsError == RPCError(.unimplemented, stream, outcome: .notSent))
    // And the stream is good for another call.
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", [1]) == [1])
    await nodes.stop()
}

@Test func methodsThatYieldItemsCannotBeCalledAsUnaryOnes() async throws {
    let nodes = try await LatticaPair()
    let error = await rpcError { _ = try await nodes.client.call(nodes.peer, "Test.count") }
    #expect(error?.message == "Method _handle_count not found")
    await nodes.stop()
}

@Test func aServiceForMartletNodesCanBeSharedWithLatticaNodes() async throws {
    let nodes = try await LatticaPair()
    nodes.pair.b.rpc.register("Native") { service in
        service.unary("double") { request, _ in RPCMessage(pieces: request.pieces + request.pieces) }
    }
    let before = await rpcError { _ = try await nodes.client.call(nodes.peer, "Native.double", [1]) }
    #expect(before?.code == .unimplemented)
    nodes.server.share("Native", from: nodes.pair.b.rpc.services)
    #expect(try await nodes.client.call(nodes.peer, "Native.double", [1]) == [1, 1])
    #expect(try await nodes.client.callStream(nodes.peer, "Native.double", [1]) == [1, 1])
    #expect(try await nodes.pair.a.call(nodes.peer, "Native.double", RPCMessage([1])) == RPCMessage([1, 1]))
    nodes.server.stopServing("Native")
    let after = await rpcError { _ = try await nodes.client.call(nodes.peer, "Native.double", [1]) }
    #expect(after?.code == .unimplemented)
    await nodes.stop()
}

@Test func anItemBeyondOneFrameIsAnErrorAndNotCutInTwo() async throws {
    let nodes = try await LatticaPair()
    nodes.server.serve("Big") { service in
        service.serverStreaming("items") { request, writer, _ in
            let size = Int(request.text) ?? 0
            try await writer.write(RPCMessage(Bytes(count: size) { $0.initializeMemory(as: UInt8.self, repeating: 7) }))
        }
    }
    let largest = try await nodes.client.stream(nodes.peer, "Big.items", Bytes(utf8: "\(16 << 20)"))
    #expect(try await largest.next()?.count == 16 << 20)
    #expect(try await largest.next() == nil)
    let error = await rpcError {
        _ = try await nodes.client.stream(nodes.peer, "Big.items", Bytes(utf8: "\((16 << 20) + 1)")).next()
    }
    #expect(error?.message.contains("one frame carries 16777216") == true)
    await nodes.stop()
}

@Test func aPeerThatAnswersWithWhatOnlyCallersSendIsRefused() async throws {
    let pair = try await NodePair { $0.network = "/lattica/1.0.0" }
    for (protocolID, answer) in [
        ("/rpc/req-resp/1.0.0", LatticaMessage.request(id: "1", method: "S.m", data: RPCMessage()).encoded),
        ("/rpc/stream/1.0.0", LatticaStreamFrame.cancel(id: "1").encoded),
    ] {
        pair.b.handle(protocolID) { stream in
            try await stream.write(answer.contiguous())
            try await stream.finish()
            while try await stream.read() != nil {}
        }
    }
    try await pair.connect()
    for way in [pair.a.lattica.call, pair.a.lattica.callStream] {
        let error = await rpcError { _ = try await way(pair.b.peerID, "S.m", [], nil) }
        #expect(error?.code == .internal)
        #expect(error?.message.contains("came from the wrong side") == true)
    }
    await pair.stop()
}

@Test func whoIsNotAuthorisedIsRefused() async throws {
    let nodes = try await LatticaPair()
    nodes.server.serve("Closed") { service in
        service.unary("door", authorize: .peers([])) { request, _ in request }
        service.serverStreaming("window", authorize: .peers([])) { _, writer, _ in try await writer.write("x") }
    }
    for error in [
        await rpcError { _ = try await nodes.client.call(nodes.peer, "Closed.door") },
        await rpcError { _ = try await nodes.client.callStream(nodes.peer, "Closed.door") },
        await rpcError { _ = try await nodes.client.stream(nodes.peer, "Closed.window").next() },
    ] {
        #expect(error?.message.hasPrefix("permissionDenied: ") == true)
    }
    await nodes.stop()
}

/// Lets a test wait for something a handler does.
private final class Signal: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream() }

    func fire() { continuation.yield() }
    func wait() async { for await _ in stream { return } }
}

@Test func cancellingTheTaskReturnsAtOnceAndCancelsTheHandler() async throws {
    let nodes = try await LatticaPair()
    let began = Signal()
    let cancelled = Signal()
    nodes.server.serve("Slow") { service in
        service.serverStreaming("items") { _, writer, _ in
            try await writer.write("first")
            began.fire()
            await withTaskCancellationHandler {
                await Signal().wait()
            } onCancel: {
                cancelled.fire()
            }
        }
    }
    let task = Task {
        var count = 0
        for try await _ in try await nodes.client.stream(nodes.peer, "Slow.items") { count += 1 }
        return count
    }
    await began.wait()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await cancelled.wait()
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", [1]) == [1])
    await nodes.stop()
}

@Test func droppingTheItemsCancelsTheHandler() async throws {
    let nodes = try await LatticaPair()
    let cancelled = Signal()
    nodes.server.serve("Slow") { service in
        service.serverStreaming("items") { _, writer, _ in
            do {
                while true { try await writer.write(RPCMessage(pattern(10_000))) }
            } catch {
                cancelled.fire()
                throw error
            }
        }
    }
    do {
        let items = try await nodes.client.stream(nodes.peer, "Slow.items")
        #expect(try await items.next()?.count == 10_000)
    }
    await cancelled.wait()
    await nodes.stop()
}

@Test func aCallThatTakesTooLongFailsInEveryWay() async throws {
    let nodes = try await LatticaPair()
    nodes.server.serve("Slow") { service in
        service.unary("never") { _, _ in
            await Signal().wait()
            throw CancellationError()
        }
        service.serverStreaming("never_items") { _, _, _ in await Signal().wait() }
    }
    let soon = Duration.milliseconds(50)
    let unary = await rpcError { _ = try await nodes.client.call(nodes.peer, "Slow.never", timeout: soon) }
    #expect(unary?.code == .deadlineExceeded)
    #expect(unary?.outcome == .maybeExecuted)
    let stream = await rpcError { _ = try await nodes.client.callStream(nodes.peer, "Slow.never", timeout: soon) }
    #expect(stream?.code == .deadlineExceeded)
    let items = await rpcError {
        _ = try await nodes.client.stream(nodes.peer, "Slow.never_items", timeout: soon).next()
    }
    #expect(items?.code == .deadlineExceeded)
    await nodes.stop()
}

@Test func aUnaryHandlerWhoseCallerGivesUpIsCancelled() async throws {
    let nodes = try await LatticaPair()
    let began = Signal()
    let ended = Signal()
    nodes.server.serve("Slow") { service in
        service.unary("never") { request, _ in
            began.fire()
            defer { ended.fire() }
            try await Task.sleep(for: .seconds(600))
            return request
        }
    }
    let call = Task { try await nodes.client.call(nodes.peer, "Slow.never") }
    await began.wait()
    call.cancel()
    await #expect(throws: CancellationError.self) { try await call.value }
    await ended.wait()
    await nodes.stop()
}

@Test func whoWaitsForAStreamCanGiveUpAndWasNotSent() async throws {
    let nodes = try await LatticaPair { $0.limits.outboundStreams = 1 }
    let began = Signal()
    nodes.server.serve("Slow") { service in
        service.serverStreaming("items") { _, writer, _ in
            began.fire()
            while true { try await writer.write(RPCMessage(pattern(10_000))) }
        }
    }
    var items: LatticaItems? = try await nodes.client.stream(nodes.peer, "Slow.items")
    await began.wait()
    let late = await rpcError {
        _ = try await nodes.client.callStream(nodes.peer, "Test.echo", timeout: .milliseconds(50))
    }
    #expect(late?.code == .deadlineExceeded)
    #expect(late?.outcome == .notSent)
    let cancelled = Task { try await nodes.client.callStream(nodes.peer, "Test.echo") }
    cancelled.cancel()
    await #expect(throws: CancellationError.self) { try await cancelled.value }
    // Once the stream is free, the next in line has it.
    let next = Task { try await nodes.client.callStream(nodes.peer, "Test.echo", [5]) }
    #expect(try await items?.next()?.count == 10_000)
    items = nil
    #expect(try await next.value == [5])
    await nodes.stop()
}

@Test func aStreamThatThePeerDropsAtOnceIsOpenedAgain() async throws {
    let pair = try await NodePair { $0.network = "/lattica/1.0.0" }
    let opened = Atomic(0)
    pair.b.handle("/rpc/stream/1.0.0") { stream in
        // Two streams are dropped, the third is taken.
        guard opened.add(1, ordering: .relaxed).newValue > 2 else { return stream.reset() }
        var server = LatticaStreamServer()
        while let bytes = try await stream.read() {
            try server.received(bytes)
            while let event = server.nextEvent() {
                switch event {
                case .send(let frame): try await stream.write(frame.encoded.contiguous())
                case .ready(let id, _, let argument):
                    for frame in LatticaStreamFrame.result(id: id, argument) {
                        try await stream.write(frame.encoded.contiguous())
                    }
                case .began, .cancelled: break
                }
            }
        }
    }
    try await pair.connect()
    #expect(try await pair.a.lattica.callStream(pair.b.peerID, "S.m", [4, 2]) == [4, 2])
    #expect(opened.load(ordering: .relaxed) == 3)
    await pair.stop()
}

@Test func aHandlerThatBlocksItsThreadHoldsUpNoOtherCall() async throws {
    let nodes = try await LatticaPair()
    let gate = BlockingGate()
    nodes.server.serve("Stuck") { service in
        service.unary("block") { _, _ in
            gate.wait()
            return "free"
        }
    }
    let blocked = Task { try await nodes.client.callStream(nodes.peer, "Stuck.block") }
    let blockedUnary = Task { try await nodes.client.call(nodes.peer, "Stuck.block") }
    for _ in 0..<20 {
        #expect(try await nodes.client.call(nodes.peer, "Test.echo", [1]) == [1])
        #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", [1]) == [1])
    }
    #expect(gate.openAndCountTimeouts() == 0)
    #expect(try await blocked.value == Bytes(utf8: "free"))
    #expect(try await blockedUnary.value == Bytes(utf8: "free"))
    await nodes.stop()
}

@Test func losingTheConnectionEndsEveryCallWithAnError() async throws {
    let nodes = try await LatticaPair()
    let began = Signal()
    nodes.server.serve("Slow") { service in
        service.unary("never") { _, _ in
            began.fire()
            await Signal().wait()
            throw CancellationError()
        }
    }
    let calls = (0..<40).map { index in
        Task {
            await rpcError {
                _ =
                    try await index % 2 == 0
                    ? nodes.client.call(nodes.peer, "Slow.never") : nodes.client.callStream(nodes.peer, "Slow.never")
            }
        }
    }
    for _ in 0..<40 { await began.wait() }
    await nodes.pair.b.stop()
    for call in calls {
        let error = await call.value
        #expect(error?.code == .unavailable)
        #expect(error?.outcome == .maybeExecuted)
    }
    await nodes.stop()
}

@Test func manyCallsAtOnceAllComeBack() async throws {
    let nodes = try await LatticaPair {
        $0.limits.outboundUnaryCalls = 8
        $0.limits.outboundStreams = 8
    }
    let results = try await withThrowingTaskGroup(of: Bool.self) { group in
        for index in 0..<400 {
            group.addTask {
                let argument = Bytes(utf8: "\(index)")
                return try await index % 2 == 0
                    ? nodes.client.call(nodes.peer, "Test.echo", argument) == argument
                    : nodes.client.callStream(nodes.peer, "Test.echo", argument) == argument
            }
        }
        return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
    }
    #expect(results == 400)
    await nodes.stop()
}

@Test func argumentsAndResultsBeyondTheLimitAreRefusedByName() async throws {
    let nodes = try await LatticaPair { $0.limits.messageSize = 100_000 }
    for way in [nodes.client.call, nodes.client.callStream] {
        let error = await rpcError { _ = try await way(nodes.peer, "Test.size", pattern(200_000), nil) }
        #expect(error?.message.contains("messageSize") == true)
        #expect(try await way(nodes.peer, "Test.size", pattern(100_000), nil) == Bytes(utf8: "100000"))
    }
    // Results are refused where they are made.
    nodes.server.serve("Large") { service in
        service.unary("result") { request, _ in RPCMessage(pattern(Int(request.text) ?? 0)) }
    }
    for way in [nodes.client.call, nodes.client.callStream] {
        let made = await rpcError { _ = try await way(nodes.peer, "Large.result", Bytes(utf8: "100001"), nil) }
        #expect(made?.message.contains("messageSize") == true)
    }
    await nodes.stop()
}

@Test func resultsBeyondTheCallersLimitAreRefusedByName() async throws {
    let nodes = try await LatticaPair()
    nodes.client.limits.messageSize = 1000
    nodes.client.limits.errorTextSize = 1000
    for way in [nodes.client.call, nodes.client.callStream] {
        let error = await rpcError { _ = try await way(nodes.peer, "Test.echo", pattern(100_000), nil) }
        #expect(error?.code == .resourceExhausted)
        #expect(error?.message.contains("messageSize") == true)
    }
    await nodes.stop()
}

@Test func onePeersArgumentsAreBoundedTogether() async throws {
    let nodes = try await LatticaPair { $0.limits.bufferedBytesPerPeer = 50_000 }
    for way in [nodes.client.call, nodes.client.callStream] {
        let error = await rpcError { _ = try await way(nodes.peer, "Test.size", pattern(200_000), nil) }
        #expect(error != nil)
        // What was taken is given back.
        for _ in 0..<5 {
            #expect(try await way(nodes.peer, "Test.size", pattern(40_000), nil) == Bytes(utf8: "40000"))
        }
    }
    await nodes.stop()
}

@Test func aFrameBeyondTheLimitClosesItsStreamOnly() async throws {
    let nodes = try await LatticaPair()
    let stream = try await nodes.pair.a.openStream(to: nodes.peer, protocol: "/rpc/stream/1.0.0")
    try await stream.write([0xFF, 0xFF, 0xFF, 0xFF, 0])
    await #expect(throws: MartletError.self) { while try await stream.read() != nil {} }
    #expect(try await nodes.client.callStream(nodes.peer, "Test.echo", [1]) == [1])
    await nodes.stop()
}

@Test func aReadByATaskThatIsCancelledAlreadyEndsAtOnce() async throws {
    let nodes = try await LatticaPair()
    let stream = try await nodes.pair.a.openStream(to: nodes.peer, protocol: "/rpc/stream/1.0.0")
    let task = Task {
        while !Task.isCancelled { await Task.yield() }
        return try await stream.read()
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await nodes.stop()
}
