import MartletCore
import MartletRPC
import MartletTestSupport
import TestVectors
import Testing

extension LatticaStreamServer {
    mutating func events() -> [Event] {
        var events: [Event] = []
        while let event = nextEvent() { events.append(event) }
        return events
    }
}

extension LatticaStreamClient {
    mutating func events() -> [Event] {
        var events: [Event] = []
        while let event = nextEvent() { events.append(event) }
        return events
    }
}

private let argument = RPCMessage([1, 2, 3])

// MARK: The serving side

@Test func callsReachTheServerHoweverTheirBytesAreCut() throws {
    let frames =
        LatticaStreamFrame.call(id: "a", method: "S.m", argument: argument) + [
            .request(id: "b", method: "S.n", data: RPCMessage([9])),
            .data(id: "b", RPCMessage([4]), isEnd: false), .data(id: "b", RPCMessage([5, 6]), isEnd: true),
            .cancel(id: "a"),
        ]
    let expected: [LatticaStreamServer.Event] = [
        .began(id: "a", method: "S.m"), .ready(id: "a", method: "S.m", argument: argument),
        .began(id: "b", method: "S.n"), .ready(id: "b", method: "S.n", argument: RPCMessage([4, 5, 6])),
        .cancelled(id: "a"),
    ]
    try DecoderVerifier.verify(Lattica.wire(frames).array, expecting: expected) {
        var server = LatticaStreamServer()
        return { piece in
            try server.received(Bytes(Array(piece)))
            return server.events()
        }
    }
}

@Test func theArgumentsOfInterleavedCallsAreKeptApart() throws {
    var server = LatticaStreamServer()
    try server.received(
        Lattica.wire([
            .request(id: "a", method: "S.a", data: RPCMessage()), .request(id: "b", method: "S.b", data: RPCMessage()),
            .data(id: "a", RPCMessage([1]), isEnd: false), .data(id: "b", RPCMessage([2]), isEnd: false),
            .data(id: "a", RPCMessage([3]), isEnd: true), .data(id: "b", RPCMessage(), isEnd: true),
        ]))
    #expect(
        server.events().suffix(2) == [
            .ready(id: "a", method: "S.a", argument: RPCMessage([1, 3])),
            .ready(id: "b", method: "S.b", argument: RPCMessage([2])),
        ])
    #expect(server.bufferedByteCount == 3)
    server.finished("a")
    server.finished("b")
    #expect(server.bufferedByteCount == 0)
    #expect(server.callCount == 0)
}

@Test(arguments: ["", "echo", "A.b.c"]) func aNameWithoutExactlyOneDotIsAnErrorWithoutAnEnd(name: String) throws {
    var server = LatticaStreamServer()
    try server.received(Lattica.wire(LatticaStreamFrame.call(id: "a", method: name, argument: argument)))
    #expect(server.events() == [.send(.error(id: "a", text: "Invalid method format"))])
    #expect(server.callCount == 0)
}

@Test func aRefusedCallGetsAnErrorAndAnEndAndTheRestOfItsArgumentIsDropped() throws {
    var server = LatticaStreamServer()
    try server.received(Lattica.wire([.request(id: "a", method: "S.m", data: RPCMessage())]))
    try server.received(Lattica.wire([.data(id: "a", RPCMessage(Lattica.pattern(1000)), isEnd: false)]))
    _ = server.events()
    server.refuse("a", "not today")
    #expect(server.events() == [.send(.error(id: "a", text: "not today")), .send(.close(id: "a"))])
    #expect(server.bufferedByteCount == 0)
    try server.received(Lattica.wire([.data(id: "a", RPCMessage([1]), isEnd: true)]))
    #expect(server.events().isEmpty)
    #expect(server.bufferedByteCount == 0)
}

@Test func aCallRefusedAfterItsArgumentCameIsNotRun() throws {
    var server = LatticaStreamServer()
    try server.received(Lattica.wire(LatticaStreamFrame.call(id: "a", method: "S.m", argument: argument)))
    #expect(server.nextEvent() == .began(id: "a", method: "S.m"))
    server.refuse("a", "no")
    #expect(server.events() == [.send(.error(id: "a", text: "no")), .send(.close(id: "a"))])
}

@Test func aCallCancelledBeforeItsArgumentIsCompleteJustEnds() throws {
    var server = LatticaStreamServer()
    try server.received(
        Lattica.wire([
            .request(id: "a", method: "S.m", data: RPCMessage()), .data(id: "a", argument, isEnd: false),
            .cancel(id: "a"), .cancel(id: "nobody"),
        ]))
    #expect(server.events() == [.began(id: "a", method: "S.m"), .send(.close(id: "a"))])
    #expect(server.bufferedByteCount == 0)
}

@Test func aCallIsCancelledOnceHoweverOftenItsCallerSaysSo() throws {
    var server = LatticaStreamServer()
    try server.received(
        Lattica.wire(
            LatticaStreamFrame.call(id: "a", method: "S.m", argument: argument) + [
                .cancel(id: "a"), .cancel(id: "a"), .close(id: "a"), .error(id: "a", text: "enough"),
            ]))
    #expect(
        server.events().suffix(2) == [
            .ready(id: "a", method: "S.m", argument: argument), .cancelled(id: "a"),
        ])
    server.finished("a")
    try server.received(Lattica.wire([.cancel(id: "a")]))
    #expect(server.events().isEmpty)
}

@Test func anArgumentBeyondTheLimitRefusesItsCallOnly() throws {
    var limits = LatticaLimits()
    limits.messageSize = 1000
    var server = LatticaStreamServer(limits: limits)
    try server.received(
        Lattica.wire([
            .request(id: "a", method: "S.m", data: RPCMessage()), .request(id: "b", method: "S.m", data: RPCMessage()),
            .data(id: "a", RPCMessage(Lattica.pattern(600)), isEnd: false),
            .data(id: "a", RPCMessage(Lattica.pattern(401)), isEnd: false),
            .data(id: "b", RPCMessage(Lattica.pattern(1000)), isEnd: true),
        ]))
    #expect(
        server.events() == [
            .began(id: "a", method: "S.m"), .began(id: "b", method: "S.m"),
            .send(.error(id: "a", text: "a message is longer than messageSize, which is 1000 bytes")),
            .send(.close(id: "a")),
            .ready(id: "b", method: "S.m", argument: RPCMessage(Lattica.pattern(1000))),
        ])
    #expect(server.bufferedByteCount == 1000)
}

@Test func moreCallsThanTheLimitAreRefused() throws {
    var limits = LatticaLimits()
    limits.callsPerStream = 2
    var server = LatticaStreamServer(limits: limits)
    for id in ["a", "b", "c"] {
        try server.received(Lattica.wire([.request(id: id, method: "S.m", data: RPCMessage())]))
    }
    #expect(
        server.events().suffix(2) == [
            .send(.error(id: "c", text: "callsPerStream is 2, and so many calls are not over")),
            .send(.close(id: "c")),
        ])
    #expect(server.callCount == 2)
}

@Test func aSecondCallWithTheIdOfOneThatIsNotOverEndsTheStream() throws {
    var server = LatticaStreamServer()
    let request = Lattica.wire([.request(id: "a", method: "S.m", data: RPCMessage())])
    try server.received(request)
    let error = failure { () throws(LatticaError) in try server.received(request) }
    #expect(error == .duplicateCall(id: "a"))
}

@Test func aFrameBeyondTheLimitIsRefusedBeforeAnyOfItIsKept() throws {
    var server = LatticaStreamServer()
    // 16 MiB and what is around it are taken,
    try server.received([0x01, 0x00, 0x10, 0x00])
    #expect(server.bufferedByteCount == 0)
    // more is not.
    for header in [[0x01, 0x00, 0x10, 0x01], [0xFF, 0xFF, 0xFF, 0xFF]] as [[UInt8]] {
        var server = LatticaStreamServer()
        let error = failure { () throws(LatticaError) in try server.received(Bytes(header)) }
        guard case .frameTooLong(_, (16 << 20) + 4096) = error else {
            Issue.record("\(String(describing: error))")
            continue
        }
    }
}

@Test func memoryFollowsWhatArrivedAndNotWhatAFrameAnnounces() throws {
    var server = LatticaStreamServer()
    try server.received([0x01, 0x00, 0x00, 0x00])
    for _ in 0..<100 { try server.received(Lattica.pattern(100)) }
    #expect(server.bufferedByteCount == 10_000)
    #expect(!server.isBetweenFrames)
}

@Test func roomIsMadeByRefusingArgumentsThatAreNotComplete() throws {
    var server = LatticaStreamServer()
    try server.received(
        Lattica.wire(
            LatticaStreamFrame.call(id: "run", method: "S.m", argument: argument) + [
                .request(id: "y", method: "S.m", data: RPCMessage()), .data(id: "y", argument, isEnd: false),
                .request(id: "x", method: "S.m", data: RPCMessage()), .data(id: "x", argument, isEnd: false),
            ]))
    _ = server.events()
    server.refuseIncomplete("full")
    #expect(
        server.events()
            == ["x", "y"].flatMap {
                [LatticaStreamServer.Event.send(.error(id: $0, text: "full")), .send(.close(id: $0))]
            })
    #expect(server.bufferedByteCount == 3)
}

@Test func aSmallArgumentDoesNotKeepTheBlockAliveThatItCameIn() throws {
    var server = LatticaStreamServer()
    let call = Lattica.wire(
        LatticaStreamFrame.call(id: "a", method: "S.m", argument: RPCMessage(Lattica.pattern(5000))))
    let block = BytesStorage(capacity: 1 << 20)
    call.withUnsafeBytes { block.mutableBytes.copyMemory(from: $0) }
    try server.received(block.slice(0..<call.count))
    guard case .ready(_, _, let argument)? = server.events().last else {
        Issue.record("no call")
        return
    }
    #expect(argument == RPCMessage(Lattica.pattern(5000)))
    #expect(argument.pieces.reduce(0) { $0 + $1.retainedByteCount } < 20_000)
}

// MARK: The calling side

@Test func itemsAndTheirEndArriveHoweverTheirBytesAreCut() throws {
    let frames: [LatticaStreamFrame] = [
        .data(id: "a", RPCMessage([1]), isEnd: false), .data(id: "a", RPCMessage(), isEnd: false),
        .data(id: "other", RPCMessage([7]), isEnd: false), .data(id: "a", RPCMessage([2, 3]), isEnd: false),
        .close(id: "other"), .close(id: "a"), .data(id: "a", RPCMessage([4]), isEnd: false),
    ]
    let expected: [LatticaStreamClient.Event] = [
        .item(id: "a", [1]), .item(id: "a", []), .item(id: "a", [2, 3]), .ended(id: "a"),
    ]
    try DecoderVerifier.verify(Lattica.wire(frames).array, expecting: expected) {
        var client = LatticaStreamClient()
        _ = client.call(.items, id: "a", method: "S.m", argument: argument)
        return { piece in
            try client.received(Bytes(Array(piece)))
            return client.events()
        }
    }
}

@Test func aResultIsPutTogetherFromItsParts() throws {
    let result = RPCMessage(Lattica.pattern(50_000))
    var client = LatticaStreamClient()
    #expect(
        client.call(.result, id: "a", method: "S.m", argument: argument) == [
            .request(id: "a", method: "S.m", data: RPCMessage()), .data(id: "a", argument, isEnd: true),
        ])
    let frames = result.pieces[0]
    try client.received(
        Lattica.wire([
            .data(id: "a", RPCMessage(frames.prefix(20_000)), isEnd: false),
            .data(id: "a", RPCMessage(frames.dropFirst(20_000)), isEnd: true),
        ]))
    // The last part says so, but only the end is the end.
    #expect(client.events().isEmpty)
    #expect(client.bufferedByteCount == 50_000)
    try client.received(Lattica.wire([.close(id: "a")]))
    #expect(client.events() == [.result(id: "a", result)])
    #expect(client.bufferedByteCount == 0)
    #expect(client.callCount == 0)
}

@Test func anEmptyResultIsJustTheEnd() throws {
    var client = LatticaStreamClient()
    _ = client.call(.result, id: "a", method: "S.m", argument: RPCMessage())
    try client.received(Lattica.wire([.close(id: "a")]))
    #expect(client.events() == [.result(id: "a", RPCMessage())])
}

@Test func anErrorEndsItsCallWhetherAnEndFollowsOrNot() throws {
    var client = LatticaStreamClient()
    _ = client.call(.items, id: "a", method: "S.m", argument: argument)
    _ = client.call(.result, id: "b", method: "S.m", argument: argument)
    try client.received(
        Lattica.wire([
            .data(id: "a", RPCMessage([1]), isEnd: false), .error(id: "a", text: "broken"), .close(id: "a"),
            .error(id: "b", text: "unknown"),
        ]))
    #expect(
        client.events() == [
            .item(id: "a", [1]), .failed(id: "a", text: "broken"), .failed(id: "b", text: "unknown"),
        ])
    #expect(client.callCount == 0)
}

@Test func nothingOfACancelledCallIsReportedButItsEnd() throws {
    var client = LatticaStreamClient()
    _ = client.call(.items, id: "a", method: "S.m", argument: argument)
    try client.received(Lattica.wire([.data(id: "a", RPCMessage([1]), isEnd: false)]))
    #expect(client.cancel("a") == .cancel(id: "a"))
    #expect(client.cancel("a") == nil)
    #expect(client.events().isEmpty)
    try client.received(Lattica.wire([.data(id: "a", RPCMessage([2]), isEnd: false), .close(id: "a")]))
    #expect(client.events() == [.cancelled(id: "a")])
    #expect(client.cancel("a") == nil)
}

@Test func aCancelledResultKeepsNothing() throws {
    var client = LatticaStreamClient()
    _ = client.call(.result, id: "a", method: "S.m", argument: argument)
    try client.received(Lattica.wire([.data(id: "a", RPCMessage(Lattica.pattern(1000)), isEnd: false)]))
    #expect(client.bufferedByteCount == 1000)
    _ = client.cancel("a")
    try client.received(Lattica.wire([.data(id: "a", RPCMessage(Lattica.pattern(1000)), isEnd: true)]))
    #expect(client.bufferedByteCount == 0)
}

@Test func aStreamedResultBeyondTheLimitEndsItsCallOnly() throws {
    var limits = LatticaLimits()
    limits.messageSize = 1000
    var client = LatticaStreamClient(limits: limits)
    _ = client.call(.result, id: "a", method: "S.m", argument: argument)
    _ = client.call(.result, id: "b", method: "S.m", argument: argument)
    try client.received(
        Lattica.wire([
            .data(id: "a", RPCMessage(Lattica.pattern(600)), isEnd: false),
            .data(id: "a", RPCMessage(Lattica.pattern(600)), isEnd: true), .close(id: "a"),
            .data(id: "b", argument, isEnd: true), .close(id: "b"),
        ]))
    #expect(client.events() == [.tooLong(id: "a"), .result(id: "b", argument)])
    #expect(client.bufferedByteCount == 0)
}

@Test(arguments: [
    LatticaStreamFrame.request(id: "a", method: "S.m", data: RPCMessage()), .cancel(id: "a"),
]) func framesThatOnlyClientsSendEndTheStream(frame: LatticaStreamFrame) {
    var client = LatticaStreamClient()
    let error = failure { () throws(LatticaError) in try client.received(Lattica.wire([frame])) }
    guard case .unexpected = error else {
        Issue.record("\(String(describing: error))")
        return
    }
}

@Test func aServerThatHasTakenTheStreamAnswersAProbeAndRunsNothing() throws {
    var client = LatticaStreamClient()
    var server = LatticaStreamServer()
    try server.received(Lattica.wire([client.probe(id: "p")]))
    let answers = server.events()
    #expect(answers == [.send(.error(id: "p", text: "Invalid method format"))])
    #expect(server.callCount == 0)
    try client.received(Lattica.wire([.error(id: "p", text: "Invalid method format")]))
    #expect(client.events() == [.failed(id: "p", text: "Invalid method format")])
    #expect(client.callCount == 0)
}

@Test func aFrameBeyondTheLimitEndsACallersStreamToo() {
    var client = LatticaStreamClient()
    let error = failure { () throws(LatticaError) in try client.received([0x01, 0x00, 0x10, 0x01]) }
    #expect(error == .frameTooLong(length: (16 << 20) + 4097, limit: (16 << 20) + 4096))
    #expect(client.bufferedByteCount == 0)
}

@Test func aClientNeverSendsAnEnd() {
    var client = LatticaStreamClient()
    var sent = client.call(.items, id: "a", method: "S.m", argument: argument)
    sent += client.cancel("a").map { [$0] } ?? []
    for frame in sent {
        switch frame {
        case .request, .data, .cancel: break
        case .close, .error: Issue.record("a client sent \(frame)")
        }
    }
}
