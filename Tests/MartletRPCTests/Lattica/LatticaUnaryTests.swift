import MartletCore
import MartletRPC
import MartletTestSupport
import TestVectors
import Testing

// As they were captured between two Lattica nodes: tag, id, method or nothing, payload, no compression.
private let request: [UInt8] = [0, 4] + Array("id-1".utf8) + [8] + Array("Svc.echo".utf8) + [3, 1, 2, 3, 0]
private let response: [UInt8] = [1, 4] + Array("id-1".utf8) + [3, 1, 2, 3, 0]
private let error: [UInt8] = [2, 4] + Array("id-1".utf8) + [21] + Array("Service Nix not found".utf8)

private let decoded: [([UInt8], LatticaMessage)] = [
    (request, .request(id: "id-1", method: "Svc.echo", data: RPCMessage([1, 2, 3]))),
    (response, .response(id: "id-1", data: RPCMessage([1, 2, 3]))),
    (error, .error(id: "id-1", text: "Service Nix not found")),
]

@Test func messagesAreTheBytesThatLatticaSends() throws {
    for (bytes, message) in decoded {
        #expect(message.encoded.array == bytes)
        try DecoderVerifier.verifyMessage(bytes, expecting: message) {
            try LatticaMessage(decoding: RPCMessage(Bytes($0)))
        }
        // Lattica ignores what follows; so do we.
        #expect(try LatticaMessage(decoding: RPCMessage(Bytes(bytes + [9, 9, 9]))) == message)
    }
}

@Test func aCompressionThatIsNoneIsTakenAndEveryOtherRefused() throws {
    let head = Array(response.dropLast())
    #expect(try LatticaMessage(decoding: RPCMessage(Bytes(head + [1, 0]))) == decoded[1].1)
    for compression in LatticaCompression.allCases where compression != .none {
        let message = RPCMessage(Bytes(head + [1, compression.rawValue]))
        let failure = failure { () throws(LatticaError) in try LatticaMessage(decoding: message) }
        #expect(failure == .compressed(compression))
    }
    let unknown = RPCMessage(Bytes(head + [1, 5]))
    guard case .malformed = failure(of: { () throws(LatticaError) in try LatticaMessage(decoding: unknown) })
    else {
        Issue.record("an unknown compression was taken")
        return
    }
}

@Test(
    arguments: [[], [3], [0, 0xFE], [0, 1, 0xFF], [0, 0, 0, 0xFD, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]]
        as [[UInt8]])
func bytesThatAreNoMessageAreRefused(bytes: [UInt8]) {
    #expect(throws: LatticaError.self) { try LatticaMessage(decoding: RPCMessage(Bytes(bytes))) }
}

@Test(arguments: [1, 2, 3, 1000]) func aCallRunsThroughBothSidesInPiecesOfAnySize(size: Int) throws {
    let argument = RPCMessage(Lattica.pattern(5000))
    var server = LatticaUnaryServer()
    feed(LatticaUnaryClient.request(id: "7", method: "Svc.echo", argument: argument), size) { server.received($0) }
    #expect(try server.finished() == .call(id: "7", method: "Svc.echo", argument: argument))

    var client = LatticaUnaryClient()
    try feed(LatticaMessage.response(id: "7", data: argument).encoded, size) { try client.received($0) }
    #expect(try client.finished() == .result(argument))
}

private func feed(_ message: RPCMessage, _ size: Int, _ body: (Bytes) throws -> Void) rethrows {
    var rest = message.contiguous()
    while !rest.isEmpty { try body(rest.takeFirst(min(size, rest.count))) }
}

@Test func anErrorReachesTheCaller() throws {
    var client = LatticaUnaryClient()
    try client.received(Bytes(error))
    #expect(try client.finished() == .failed("Service Nix not found"))
}

@Test func messagesOfTheWrongSideAndMessagesCutShortAreRefused() throws {
    var client = LatticaUnaryClient()
    try client.received(Bytes(request))
    #expect(failure { () throws(LatticaError) in try client.finished() } == .unexpected("a request"))
    var server = LatticaUnaryServer()
    server.received(Bytes(response))
    #expect(failure { () throws(LatticaError) in try server.finished() } == .unexpected("an answer"))
    var cut = LatticaUnaryServer()
    cut.received(Bytes(request.dropLast(3)))
    #expect(
        failure { () throws(LatticaError) in try cut.finished() }
            == .ended(afterByteCount: request.count - 3))
    var nothing = LatticaUnaryClient()
    #expect(failure { () throws(LatticaError) in try nothing.finished() } == .ended(afterByteCount: 0))
}

@Test func anArgumentBeyondTheLimitIsNotKeptAndItsSenderIsTold() throws {
    var limits = LatticaLimits()
    limits.messageSize = 10_000
    var server = LatticaUnaryServer(limits: limits)
    let head = LatticaUnaryClient.request(id: "big", method: "Svc.echo", argument: RPCMessage(Lattica.pattern(10_001)))
    server.received(head.contiguous())
    for _ in 0..<1000 { server.received(Lattica.pattern(4096)) }
    #expect(server.bufferedByteCount < 20_000)
    #expect(
        try server.finished()
            == .refused(id: "big", text: "a message is longer than messageSize, which is 10000 bytes"))
    // One just over the limit is refused as well, and one at the limit is not.
    var over = LatticaUnaryServer(limits: limits)
    over.received(head.contiguous())
    guard case .refused = try over.finished() else {
        Issue.record("10,001 bytes were taken")
        return
    }
    var at = LatticaUnaryServer(limits: limits)
    let argument = RPCMessage(Lattica.pattern(10_000))
    at.received(LatticaUnaryClient.request(id: "", method: "Svc.echo", argument: argument).contiguous())
    #expect(try at.finished() == .call(id: "", method: "Svc.echo", argument: argument))
}

@Test func aResultBeyondTheLimitEndsTheCall() throws {
    var limits = LatticaLimits()
    limits.messageSize = 10_000
    limits.errorTextSize = 100
    var client = LatticaUnaryClient(limits: limits)
    let error = failure { () throws(LatticaError) in
        for _ in 0..<100 { try client.received(Lattica.pattern(1000)) }
    }
    #expect(error == .messageTooLong(limit: 10_000))
    #expect(client.bufferedByteCount < 20_000)
}

@Test func aCompressedRequestIsAnsweredWithAnError() throws {
    var server = LatticaUnaryServer()
    server.received(Bytes(request.dropLast() + [1, 1]))
    #expect(
        try server.finished() == .refused(id: "", text: "the payload is compressed (gzip), which is not supported"))
}

@Test func tinyPiecesDoNotCostMoreThanTheirBytes() throws {
    var server = LatticaUnaryServer()
    let message = LatticaUnaryClient.request(id: "1", method: "S.m", argument: RPCMessage(Lattica.pattern(100_000)))
    feed(message, 1) { server.received($0) }
    guard case .call(_, _, let argument) = try server.finished() else {
        Issue.record("refused")
        return
    }
    #expect(argument.pieces.count < 20)
    #expect(argument.pieces.reduce(0) { $0 + $1.retainedByteCount } < 400_000)
}

@Test func idsAndNamesBeyondTheirLimitAreRefused() {
    let long = String(repeating: "x", count: 1025)
    for message in [
        LatticaMessage.request(id: long, method: "S.m", data: RPCMessage()),
        .request(id: "1", method: long, data: RPCMessage()), .response(id: long, data: RPCMessage()),
    ] {
        #expect(throws: LatticaError.self) { try LatticaMessage(decoding: message.encoded) }
    }
    var limits = LatticaLimits()
    limits.errorTextSize = 10
    #expect(throws: LatticaError.self) {
        try LatticaMessage(decoding: LatticaMessage.error(id: "1", text: "12345678901").encoded, limits: limits)
    }
}
