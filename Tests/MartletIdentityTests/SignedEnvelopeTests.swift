import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

private let identity = KeyPair(seed: [UInt8](repeating: 1, count: 32))
private let type: [UInt8] = [0x03, 0x01]

private func sealed(_ payload: [UInt8] = [1, 2, 3]) -> SignedEnvelope {
    .seal(payload, type: type, domain: "a-domain", with: identity)
}

private func refusal(of bytes: [UInt8], domain: String = "a-domain") -> EnvelopeError? {
    failure { () throws(EnvelopeError) in try SignedEnvelope.open(bytes, type: type, domain: domain) }
}

@Test func envelopeOfGoIsAccepted() throws {
    let row = try #require(try vectors("envelopes.tsv").first { $0[0] == "go" })
    let bytes = try hex(row[2])
    let envelope = try SignedEnvelope.open(bytes, type: Array("/libp2p/testdata".utf8), domain: row[1])
    #expect(envelope.payload == Array("hello world!".utf8))
    #expect(envelope.bytes == bytes)
    #expect(throws: EnvelopeError.invalidSignature) { try envelope.verify(domain: "libp2p-peer-record") }
    // The same with two bytes of the payload changed, as nim-libp2p tests it.
    let changed = try hex(row[2].replacing("68656c6c6f20", with: "00006c6c6f20"))
    #expect(throws: EnvelopeError.invalidSignature) { try SignedEnvelope(bytes: changed).verify(domain: row[1]) }
}

@Test func whatWasSealedOpensForTheSamePurposeOnly() throws {
    let envelope = sealed()
    #expect(try SignedEnvelope.open(envelope.bytes, type: type, domain: "a-domain") == envelope)
    #expect(refusal(of: envelope.bytes, domain: "b-domain") == .invalidSignature)
    #expect(refusal(of: envelope.bytes, domain: "a-domai") == .invalidSignature)
    #expect(throws: EnvelopeError.unexpectedPayloadType(type)) {
        try SignedEnvelope.open(envelope.bytes, type: [0x03, 0x02], domain: "a-domain")
    }
    #expect(try SignedEnvelope.open(sealed([]).bytes, type: type, domain: "a-domain").payload.isEmpty)
}

@Test func lengthsKeepDomainTypeAndPayloadApart() {
    // Without the lengths these would all sign the same bytes.
    let first = SignedEnvelope.seal([3, 4], type: [1, 2], domain: "ab", with: identity)
    let second = SignedEnvelope.seal([2, 3, 4], type: [1], domain: "ab", with: identity)
    let third = SignedEnvelope.seal([3, 4], type: [0x62, 1, 2], domain: "a", with: identity)
    #expect(Set([first.signature, second.signature, third.signature]).count == 3)
}

@Test func everyChangedBitOfAnEnvelopeIsNoticed() throws {
    let envelope = sealed()
    let bytes = envelope.bytes
    for bit in 0..<(8 * bytes.count) {
        var changed = bytes
        changed[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(refusal(of: changed) != nil, "bit \(bit)")
    }
}

@Test func truncatedEnvelopesAreRefused() {
    let bytes = sealed().bytes
    for count in 0..<bytes.count { #expect(refusal(of: Array(bytes.prefix(count))) != nil) }
}

@Test func signatureOfSomeoneElseIsRefused() {
    let other = KeyPair.generate()
    let signed = sealed()
    let forged =
        field(1, other.publicKey.protobuf) + field(2, type) + field(3, signed.payload)
        + field(5, signed.signature)
    #expect(refusal(of: forged) == .invalidSignature)
}

@Test func envelopesWithoutAPartAreRefused() {
    let signed = sealed()
    let parts = [
        field(1, identity.publicKey.protobuf), field(2, type), field(3, signed.payload), field(5, signed.signature),
    ]
    #expect(refusal(of: parts.flatMap { $0 }) == nil)
    #expect(refusal(of: (parts[1] + parts[2] + parts[3])) == .malformed(reason: "an envelope without public key"))
    #expect(refusal(of: (parts[0] + parts[2] + parts[3])) == .malformed(reason: "an envelope without payload type"))
    #expect(refusal(of: (parts[0] + parts[1] + parts[3])) == .invalidSignature)
    #expect(refusal(of: (parts[0] + parts[1] + parts[2])) == .malformed(reason: "an envelope without signature"))
    // Field 4 is where the text of the RFC has the signature; nobody sends it there.
    #expect(refusal(of: parts[0] + parts[1] + parts[2] + field(4, signed.signature)) != nil)
    // A key in another encoding would be another peer.
    let loose = field(2, identity.publicKey.rawBytes) + [0x08, 0x01]
    #expect(
        refusal(of: field(1, loose) + parts[1] + parts[2] + parts[3])
            == .key(.malformed(reason: "not in the deterministic encoding")))
}

@Test func envelopePartsAreBounded() {
    let limit = SignedEnvelope.defaultMaximumByteCount
    #expect(
        refusal(of: [UInt8](repeating: 0, count: limit + 1))
            == .tooLong(field: "envelope", byteCount: limit + 1, limit: limit))
    let signed = sealed()
    let key = field(1, identity.publicKey.protobuf)
    let longType = field(2, [UInt8](repeating: 1, count: 65))
    #expect(
        refusal(of: key + longType + field(5, signed.signature))
            == .tooLong(field: "payload type", byteCount: 65, limit: 64))
    let longSignature = field(5, [UInt8](repeating: 1, count: 1025))
    #expect(
        refusal(of: key + field(2, type) + longSignature) == .tooLong(field: "signature", byteCount: 1025, limit: 1024))
    let longKey = field(1, [UInt8](repeating: 1, count: 1201))
    #expect(
        refusal(of: longKey + field(2, type) + field(5, signed.signature))
            == .key(.tooLong(byteCount: 1201, limit: 1200)))
}

// MARK: - Peer records

private func addresses(_ count: Int) throws -> [Multiaddr] {
    try (0..<count).map { try Multiaddr("/ip4/192.0.2.1/tcp/\($0 + 1)") }
}

@Test func recordOfRustIsTheSameByteForByte() throws {
    let row = try #require(try vectors("envelopes.tsv").first { $0[0] == "rust" })
    let record = try PeerRecord(
        peerID: identity.peerID, sequence: 42, addresses: [Multiaddr("/ip4/11.1.0.1/tcp/4001")])
    #expect(hex(record.sealed(with: identity).bytes) == row[2])
    let opened = try PeerRecord.open(hex(row[2]))
    #expect(opened.record == record)
    #expect(opened.envelope.publicKey == identity.publicKey)
}

@Test func recordOfNimIsAccepted() throws {
    let row = try #require(try vectors("envelopes.tsv").first { $0[0] == "nim" })
    let (record, envelope) = try PeerRecord.open(hex(row[2]))
    #expect(record.sequence == 1_647_409_836)
    #expect(record.addresses.map(\.description) == (1...3).map { "/ip4/0.0.0.0/udp/\($0)" })
    #expect(hex(envelope.bytes) == row[2])
}

@Test func largestSequenceGoesThrough() throws {
    let record = try PeerRecord(peerID: identity.peerID, sequence: .max, addresses: [])
    #expect(try PeerRecord.open(record.sealed(with: identity).bytes).record == record)
}

@Test func recordAboutAnotherPeerIsRefused() throws {
    let victim = KeyPair.generate().peerID
    let payload = field(1, victim.bytes) + [0x10, 0x01]
    let envelope = SignedEnvelope.seal(
        payload, type: PeerRecord.payloadType, domain: PeerRecord.domain, with: identity)
    #expect(throws: EnvelopeError.foreignPeer(signer: identity.peerID, subject: victim)) {
        try PeerRecord.open(envelope.bytes)
    }
}

@Test func recordsForOtherPurposesAreRefused() throws {
    let payload = field(1, identity.peerID.bytes) + [0x10, 0x01]
    let voucher = SignedEnvelope.seal(payload, type: [0x03, 0x02], domain: "libp2p-relay-rsvp", with: identity)
    #expect(throws: EnvelopeError.unexpectedPayloadType([0x03, 0x02])) { try PeerRecord.open(voucher.bytes) }
    let otherDomain = SignedEnvelope.seal(
        payload, type: PeerRecord.payloadType, domain: "libp2p-routing-state", with: identity)
    #expect(throws: EnvelopeError.invalidSignature) { try PeerRecord.open(otherDomain.bytes) }
}

@Test func recordAddressesAreBounded() throws {
    let limit = PeerRecord.maximumAddressCount
    let full = try PeerRecord(peerID: identity.peerID, sequence: 1, addresses: addresses(limit))
    #expect(try PeerRecord.open(full.sealed(with: identity).bytes).record == full)
    #expect(throws: EnvelopeError.tooManyAddresses(count: limit + 1, limit: limit)) {
        try PeerRecord(peerID: identity.peerID, sequence: 1, addresses: addresses(limit + 1))
    }
    // The smallest entries, as many as fit.
    let flood = field(1, identity.peerID.bytes) + (0..<7000).flatMap { _ in [0x1A, 0x00] as [UInt8] }
    let envelope = SignedEnvelope.seal(flood, type: PeerRecord.payloadType, domain: PeerRecord.domain, with: identity)
    #expect(throws: EnvelopeError.tooManyAddresses(count: 7000, limit: limit)) { try PeerRecord.open(envelope.bytes) }
}

@Test func addressesOfUnknownProtocolsAreLeftOut() throws {
    let known = try Multiaddr("/ip4/192.0.2.1/tcp/1")
    let entries: [[UInt8]] = [[0xFF, 0xFF, 0x03], [], known.bytes, [UInt8](repeating: 4, count: 2000)]
    let payload = field(1, identity.peerID.bytes) + [0x10, 0x05] + entries.flatMap { field(3, field(1, $0)) }
    let envelope = SignedEnvelope.seal(payload, type: PeerRecord.payloadType, domain: PeerRecord.domain, with: identity)
    #expect(try PeerRecord.open(envelope.bytes).record.addresses == [known])
}

@Test func payloadsThatAreNoRecordsAreRefused() {
    for payload: [UInt8] in [[], [0xFF], [0x0A, 0x7F], field(1, [1, 2, 3]), [0x10, 0x01]] {
        let envelope = SignedEnvelope.seal(
            payload, type: PeerRecord.payloadType, domain: PeerRecord.domain, with: identity)
        let error = failure { () throws(EnvelopeError) in try PeerRecord.open(envelope.bytes).record }
        guard case .malformed = error else {
            Issue.record("\(payload): \(error.map { "\($0)" } ?? "accepted")")
            continue
        }
    }
}
