import MartletCore
import Testing

@testable import MartletReachability

private let messages: [AutoNATMessage] = [
    .dialRequest(addresses: [multiaddr("/ip4/11.7.0.9/tcp/4001"), nil], nonce: .max),
    .dialDataRequest(index: 3, byteCount: 40_000),
    .dialData(byteCount: 4096),
    .dialResponse(.dialed(index: 1, .reached)),
    .dialResponse(.dialed(index: 0, .notReached)),
    .dialResponse(.dialed(index: 2, .reachedWithoutNonce)),
    .dialResponse(.rejected),
    .dialResponse(.refused),
    .dialResponse(.failed),
]

@Test(arguments: messages)
func whatIsWrittenIsReadAgain(_ message: AutoNATMessage) throws {
    var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit)
    var bytes = Bytes(message.encoded)
    let body = try reader.next(from: &bytes)
    #expect(bytes.isEmpty)
    #expect(try AutoNATMessage(#require(body)) == message)
}

@Test func theWireIsThatOfTheSpecification() throws {
    let request = AutoNATMessage.dialRequest(
        addresses: [multiaddr("/ip4/1.2.3.4/tcp/80")], nonce: 0x0102_0304_0506_0708)
    let wire: [UInt8] = [
        0x15, 0x0A, 0x13, 0x0A, 0x08, 0x04, 1, 2, 3, 4, 0x06, 0, 80, 0x11, 8, 7, 6, 5, 4, 3, 2, 1,
    ]
    #expect(request.encoded == wire)
    // Whoever writes proto3 leaves zeros out: status 0, place 0, nonce 0.
    #expect(try AutoNATMessage([0x12, 0x00]) == .dialResponse(.failed))
    #expect(
        try AutoNATMessage([0x12, 0x06, 0x08, 0xC8, 1, 0x18, 0xC8, 1]) == .dialResponse(.dialed(index: 0, .reached)))
    #expect(try AutoNATMessage([0x0A, 0x00]) == .dialRequest(addresses: [], nonce: 0))
    #expect(try DialBackMessage.nonce([]) == 0)
}

@Test func statesUnknownHereAreFailures() throws {
    #expect(try AutoNATMessage([0x12, 0x03, 0x08, 0xAC, 2]) == .dialResponse(.failed))
    #expect(try AutoNATMessage([0x12, 0x06, 0x08, 0xC8, 1, 0x18, 0xAC, 2]) == .dialResponse(.failed))
}

@Test(arguments: [[], [0xFF], [0x0A], [0x0A, 0x05, 0x01], [0x2A, 0x00]] as [[UInt8]])
func whatIsNoMessageIsRefused(_ bytes: [UInt8]) {
    #expect(throws: DecodingError.self) { try AutoNATMessage(bytes) }
}

@Test func addressesBeyondTheLimitAreNotLookedAt() throws {
    let addresses = (1...60).map { multiaddr("/ip4/11.7.0.9/tcp/\($0)") }
    var bytes = Bytes(AutoNATMessage.dialRequest(addresses: addresses, nonce: 1).encoded)
    var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit)
    guard let body = try reader.next(from: &bytes), case .dialRequest(let read, _) = try AutoNATMessage(body) else {
        Issue.record("not read")
        return
    }
    #expect(read == Array(addresses.prefix(AutoNAT.addressLimit)))
}
