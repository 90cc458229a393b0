import MartletCore
import MartletTestSupport
import Testing

@testable import MartletReachability

private func address(_ text: String) throws -> TransportAddress {
    try #require(TransportAddress(quic: Multiaddr("/ip4/\(text)/udp/4001/quic-v1")))
}

private func payload(_ framed: [UInt8]) throws -> [UInt8] {
    var reader = PrefixedMessageReader.circuit()
    var bytes = Bytes(framed)
    return try #require(try reader.next(from: &bytes))
}

@Test func aPunchMessageKeepsWhatItSays() throws {
    var description = PunchDescription(udp: [try address("11.7.0.1"), try address("192.168.1.2")])
    description.tcp = [TransportAddress(.v4(IPv4Address(11, 7, 0, 1)), port: 9)]
    description.nat = NATKind(
        mapping: .addressAndPortDependent, filtering: .dependent, allocation: .sequential(step: -2))
    description.nextPort = 4711
    description.isTCPUnsure = true
    let secret = [UInt8](repeating: 7, count: PunchKey.shareByteCount)
    let messages: [PunchMessage] = [
        .offer(attempt: 1, secret: secret, description),
        .answer(attempt: 3, secret: secret, PunchDescription(), held: .microseconds(123_456)),
        .go(attempt: 2), .done,
    ]
    for message in messages { #expect(try PunchMessage(payload(message.encoded)) == message) }
}

@Test func everyKindOfNATIsKept() throws {
    let allocations: [PortAllocation] = [.unknown, .preserving, .sequential(step: 1), .random]
    for mapping in NATMapping.allCases {
        for filtering in NATFiltering.allCases {
            for allocation in allocations {
                let kind = NATKind(mapping: mapping, filtering: filtering, allocation: allocation)
                #expect(PunchDescription(PunchProtobuf(PunchDescription(nat: kind))).nat == kind)
            }
        }
    }
}

@Test func aPunchMessageWithoutAWholeSecretIsRefused() throws {
    for count in [0, PunchKey.shareByteCount - 1, PunchKey.shareByteCount + 1, 1000] {
        let message = PunchMessage.offer(
            attempt: 1, secret: [UInt8](repeating: 1, count: count), PunchDescription())
        #expect(throws: DecodingError.self) { try PunchMessage(payload(message.encoded)) }
    }
    #expect(throws: DecodingError.self) { try PunchMessage([]) }
    #expect(throws: DecodingError.self) { try PunchMessage([0xFF, 0xFF]) }
}

@Test func addressesBeyondTheLimitAreLeftOut() throws {
    let many = (0..<200).map { TransportAddress(.v4(IPv4Address(rawValue: 0x0B07_0000 + $0)), port: 1) }
    let message = PunchProtobuf(PunchDescription(udp: many, tcp: many))
    #expect(message.addresses.count == 32)
    var own = PunchProtobuf()
    own.addresses = many.map { protobufData($0.quicMultiaddr.bytes) }
    #expect(PunchDescription(own).udp.count == 32)
    let limits = PunchLimits()
    let local = PunchDescription(udp: [try address("11.9.0.1")])
    let targets = local.targets(of: PunchDescription(udp: many), \.udp, limits: limits)
    #expect(targets.count == limits.maximumCandidates)
}

@Test func aDCUtRMessageKeepsItsAddresses() throws {
    let addresses = [try Multiaddr("/ip4/11.7.0.1/udp/1/quic-v1"), try Multiaddr("/ip6/2600:7::1/tcp/2")]
    try DecoderVerifier.verifyMessage(
        try payload(DCUtRMessage.connect(addresses).encoded), expecting: DCUtRMessage.connect(addresses)
    ) { bytes in
        let message = try DCUtRMessage(bytes)
        // Cut between two addresses it is a shorter message.
        guard case .connect(let found) = message, found.count == 2 else { throw DecodingError.trailingBytes(0) }
        return message
    }
    #expect(try DCUtRMessage(payload(DCUtRMessage.sync.encoded)) == .sync)
    #expect(throws: DecodingError.self) { try DCUtRMessage([]) }
    #expect(throws: DecodingError.self) { try DCUtRMessage([0x08, 0x00]) }
}

@Test func aDCUtRMessageStaysBelowWhatPeersRead() throws {
    let long = try (0..<300).map { try Multiaddr("/ip6/2600:7::\($0)/tcp/2") }
    #expect(DCUtRMessage.connect(long).encoded.count < PunchLimits.messageByteCount)
}

@Test func aProbeIsReadWithItsKeyOnly() throws {
    let dialer = [UInt8](repeating: 1, count: PunchKey.shareByteCount)
    let listener = [UInt8](repeating: 2, count: PunchKey.shareByteCount)
    let key = PunchKey(dialer: dialer, listener: listener)
    let probe = PunchProbe(isAnswer: true, isFromDialer: false, number: 0xDEAD_BEEF)
    let packet = probe.encoded(with: key)
    #expect(packet.count == PunchProbe.byteCount)
    #expect(packet[0] & 0xC0 == 0, "neither QUIC nor anything else that this socket carries")
    #expect(!STUNMessage.looksLike(packet))
    #expect(PunchProbe(packet, key: key) == probe)
    #expect(PunchProbe(packet, key: PunchKey(dialer: listener, listener: dialer)) == nil)
    for index in packet.indices {
        var changed = packet
        changed[index] ^= 1
        #expect(PunchProbe(changed, key: key) == nil, "byte \(index)")
    }
    #expect(PunchProbe(packet + [0], key: key) == nil)
    #expect(PunchProbe(Array(packet.dropLast()), key: key) == nil)
}

@Test func stunMessagesAreReadAndOtherThingsAreNot() throws {
    // RFC 5769, section 2.2, without the attributes that are not ours to check: the XOR-mapped address 192.0.2.1:32853.
    let response: [UInt8] = [
        0x01, 0x01, 0x00, 0x0C, 0x21, 0x12, 0xA4, 0x42, 0xB7, 0xE7, 0xA7, 0x01, 0xBC, 0x34, 0xD6, 0x86, 0xFA, 0x87,
        0xDF, 0xAE, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43,
    ]
    let id = Array(response[8..<20])
    let mapped = TransportAddress(.v4(IPv4Address(192, 0, 2, 1)), port: 32853)
    try DecoderVerifier.verifyMessage(response, expecting: .response(id, mapped: mapped, other: nil)) {
        try STUNMessage(bytes: $0)
    }
    let ip6 = TransportAddress(.v6(IPv6Address(high: 0x2600_0007, low: 5)), port: 4001)
    for message: STUNMessage in [
        .request(id), .changeRequest(id, changesAddress: true), .changeRequest(id, changesAddress: false),
        .response(id, mapped: ip6, other: mapped), .response(id, mapped: mapped, other: ip6),
        .response(id, mapped: mapped, other: mapped, alternate: ip6),
    ] {
        #expect(STUNMessage.looksLike(message.bytes))
        #expect(try STUNMessage(bytes: message.bytes) == message)
    }
    try DecoderVerifier.verifyRefused([
        [], [0, 1], [UInt8](repeating: 0, count: 300), Array(response.dropLast(4)), response + [0, 0, 0, 0],
    ]) { try STUNMessage(bytes: $0) }
}

@Test func stunAnswersAreLimited() throws {
    var responder = STUNResponder()
    let request = STUNMessage.request([UInt8](repeating: 3, count: 12)).bytes
    let from = try address("11.7.0.9")
    func answers(at now: Instant) -> Int {
        (0..<(STUNResponder.answersPerSecond * 2)).reduce(0) { count, _ in
            count + (responder.answer(request, from: from, other: nil, now: now) == nil ? 0 : 1)
        }
    }
    #expect(answers(at: Instant(nanoseconds: 0)) == STUNResponder.answersPerSecond)
    #expect(answers(at: Instant(nanoseconds: 500_000_000)) == 0)
    #expect(answers(at: Instant(nanoseconds: 1_000_000_000)) == STUNResponder.answersPerSecond)
    #expect(responder.answer([1, 2, 3], from: from, other: nil, now: Instant(nanoseconds: 9_000_000_000)) == nil)
}

@Test func stunAnswersComeFromWhereTheyAreWanted() throws {
    var responder = STUNResponder()
    let id = [UInt8](repeating: 3, count: 12)
    let from = try address("11.7.0.9")
    let other = try address("11.7.0.1")
    let alternate = try address("11.8.0.1")
    let now = Instant(nanoseconds: 0)
    let requests: [STUNMessage] = [
        .request(id), .changeRequest(id, changesAddress: false), .changeRequest(id, changesAddress: true),
    ]
    let sources = requests.map {
        responder.answer($0.bytes, from: from, other: other, alternate: alternate, now: now)?.source
    }
    #expect(sources == [.asked, .other, .alternate])
    let lacking = requests.map { responder.answer($0.bytes, from: from, other: nil, now: now)?.source }
    #expect(lacking == [.asked, nil, nil])
    let answer = STUNMessage.response(id, mapped: from, other: other, alternate: alternate)
    #expect(
        responder.answer(requests[2].bytes, from: from, other: other, alternate: alternate, now: now)?.bytes
            == answer.bytes)
    // Nobody can have it answer answers.
    #expect(responder.answer(answer.bytes, from: from, other: other, alternate: alternate, now: now) == nil)
}

@Test func portGuessesComeOnceEachTheLikelyOnesFirst() {
    var random = RandomSource(seed: 1)
    var guesses = PortGuesses(first: [5000, 5002], random: &random)
    #expect(guesses.draw() == 5000)
    #expect(guesses.draw() == 5002)
    var seen: Set<UInt16> = [5000, 5002]
    while let port = guesses.draw() { #expect(seen.insert(port).inserted) }
    #expect(seen.count == PortGuesses.range.count)
}
