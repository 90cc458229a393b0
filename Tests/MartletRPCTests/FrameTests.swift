import MartletCore
import Testing

@testable import MartletRPC

private func frames() -> [(RPCFrame, [UInt8])] {
    var call = RPCCallHeader(call: 300, method: 5, methodName: "Model.forward")
    call.milliseconds = 5000
    call.metadata = ["trace": "7", "leer": ""]
    call.message = RPCMessageHeader(total: 70_000, fragment: 4, tensor: TensorDescription(.bfloat16, [1, 35_000]))
    call.ends = true
    var oneWay = RPCCallHeader(call: 0, method: 0)
    oneWay.isOneWay = true
    oneWay.ends = true
    oneWay.message = RPCMessageHeader(total: 3, fragment: 3)
    return [
        (.call(call), [1, 2, 3, 4]),
        (.call(oneWay), [1, 2, 3]),
        (.call(RPCCallHeader(call: 65_535, method: 1023)), []),
        (.message(call: 1, RPCMessageHeader(total: 0, fragment: 0), ends: true), []),
        (
            .message(
                call: 2, RPCMessageHeader(total: 9, fragment: 2, tensor: TensorDescription(.bool, [])), ends: false),
            [8, 9]
        ),
        (.more(call: 2, byteCount: 7), [1, 2, 3, 4, 5, 6, 7]),
        (.end(call: 3), []), (.result(call: 4, nil), []),
        (.result(call: 4, RPCMessageHeader(total: 1, fragment: 1)), [0]),
        (.failure(call: 5, RPCError(.notFound, "weg", details: [1, 2], outcome: .maybeExecuted)), []),
        (.cancel(call: 6), []), (.credit(call: 7, byteCount: 1 << 30), []), (.acknowledge(1 << 40), []), (.goAway, []),
    ]
}

private func encode(_ frame: RPCFrame, _ payload: [UInt8] = []) -> [UInt8] {
    var room = [UInt8](repeating: 0xEE, count: frame.headerBound)
    let size = room.withUnsafeMutableBytes { frame.write(to: $0) }
    return Array(room[..<size]) + payload
}

@Test func everyFrameComesBackHoweverItIsCut() throws {
    let all = frames()
    let stream = all.flatMap { encode($0.0, $0.1) }
    for size in [stream.count, 1, 2, 3, 7, 64] {
        var parser = RPCFrameParser(limits: RPCLimits())
        var received: [(RPCFrame, [UInt8])] = []
        for start in stride(from: 0, to: stream.count, by: size) {
            parser.append(Bytes(Array(stream[start..<min(start + size, stream.count)])))
            while let (frame, payload, _) = try parser.next() { received.append((frame, payload.contiguous().array)) }
        }
        #expect(received.map(\.0) == all.map(\.0))
        #expect(received.map(\.1) == all.map(\.1))
    }
}

@Test func aFrameThatIsCutOffIsNotAFrame() throws {
    for (frame, payload) in frames() {
        let bytes = encode(frame, payload)
        for count in 0..<bytes.count {
            var parser = RPCFrameParser(limits: RPCLimits())
            parser.append(Bytes(Array(bytes[..<count])))
            #expect(try parser.next() == nil)
        }
    }
}

@Test(
    arguments: [
        [0x00], [0x0B], [0x1F],  // unknown types
        [0x02, 0x01],  // a message without one
        [0x14, 0x01],  // an end with flags
        [0x03, 0x01, 0x00],  // an empty fragment
        [0x03, 0x01, 0x81, 0x80, 0x04],  // a fragment beyond 64 KiB
        [0x12, 0x01, 0x81, 0x80, 0x04],  // a message beyond 64 KiB in one frame
        [0x32, 0x01, 0x05, 0x05],  // a part as large as the whole
        [0x07, 0x00],  // a cancellation of nothing
        [0x01, 0x10, 0x01, 0x00],  // unknown flags of a call
        [0x01, 0x00, 0x00, 0x00],  // a call without a number that wants an answer
        [0x11, 0x01, 0x00, 0x00, 0x01],  // a one-way call without a number that goes on
        [0x01, 0x00, 0x81, 0x80, 0x04],  // a call number beyond the limit
        [0x01, 0x00, 0x01, 0x80, 0x08],  // a method number beyond the table
        [0x01, 0x08, 0x01, 0x00, 0x80, 0x02],  // a name beyond its limit
        [0x01, 0x08, 0x01, 0x00, 0x01, 0xFF],  // a name that is not UTF-8
        [0x01, 0x04, 0x01, 0x00, 0x81, 0x80, 0x01],  // metadata beyond their limit
        [0x01, 0x04, 0x01, 0x00, 0x02, 0x05, 0x61],  // metadata that are cut off within their block
        [0x92, 0x01, 0x0A, 0x11],  // a tensor of 17 dimensions
        [0x06, 0x01, 0x05, 0x03],  // an unknown outcome
        [0x06, 0x01, 0x05, 0x00, 0x81, 0x20],  // an error text beyond its limit
        [0x09, 0x80, 0x00],  // a number with needless zeros
        [0x09, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],  // a number too long
    ] as [[UInt8]])
func whatIsNoFrameIsAnError(bytes: [UInt8]) {
    var parser = RPCFrameParser(limits: RPCLimits())
    parser.append(Bytes(bytes))
    #expect(throws: DecodingError.self) { _ = try parser.next() }
}

@Test func helloAndWelcomeComeBack() throws {
    let hello = RPCHello(
        session: RPCSessionID(high: .max, low: 7), lane: .bulk, isResumed: true, receivedCount: 1 << 40, link: 3)
    let welcome = RPCWelcome(status: .welcome, receivedCount: 9, callLimit: 16_384, messageLimit: 64 << 20)
    let helloBytes = hello.encoded
    let welcomeBytes = welcome.encoded
    #expect(try RPCHello.decode(helloBytes.span)?.hello == hello)
    #expect(try RPCWelcome.decode(welcomeBytes.span)?.welcome == welcome)
    for count in 0..<helloBytes.count { #expect(try RPCHello.decode(helloBytes.prefix(count).span) == nil) }
    for count in 0..<welcomeBytes.count { #expect(try RPCWelcome.decode(welcomeBytes.prefix(count).span) == nil) }
    let unknown: Bytes = [2]
    #expect(throws: DecodingError.self) { _ = try RPCHello.decode(unknown.span) }
    #expect(throws: DecodingError.self) { _ = try RPCWelcome.decode(unknown.span) }
}

@Test func aLargePayloadIsNotCopied() throws {
    let payload = Bytes([UInt8](repeating: 7, count: 50_000))
    var log = RPCSendLog()
    log.append(
        .more(call: 1, byteCount: payload.count), RPCMessage(payload), payload: 0..<payload.count)
    _ = log.takeChunk()
    let chunk = log.takeChunk()
    let sent = try #require(chunk)
    let isSame = sent.withUnsafeBytes { sent in payload.withUnsafeBytes { sent.baseAddress == $0.baseAddress } }
    #expect(isSame)
    var parser = RPCFrameParser(limits: RPCLimits())
    let received = Bytes(encode(.more(call: 1, byteCount: payload.count)) + payload.array)
    parser.append(received)
    let next = try parser.next()
    let message = try #require(next).payload
    let isSlice = received.withUnsafeBytes { whole in
        message.contiguous().withUnsafeBytes { part in
            part.baseAddress.map { $0 > whole.baseAddress! && $0 < whole.baseAddress! + whole.count } ?? false
        }
    }
    #expect(isSlice)
}
