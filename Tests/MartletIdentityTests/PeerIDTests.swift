import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

private let ed25519 = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
private let hashed = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

@Test func examplesOfTheSpecificationAreOnePeerInBothForms() throws {
    let inBase58 = try PeerID(hashed)
    let asCID = try PeerID("bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe")
    #expect(inBase58 == asCID)
    #expect(asCID.description == hashed)
    #expect(inBase58.cid.text(in: .base32) == "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe")
    #expect(inBase58.publicKey == nil)
    #expect(inBase58.byteCount == 34)
    #expect(try PeerID("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA").publicKey?.kind == .ed25519)
}

@Test func shortKeysAreInTheIDAndLongOnesHashed() throws {
    for row in try vectors("keys.tsv") {
        let key = try PublicKey(protobuf: hex(row[2]))
        let id = key.peerID
        #expect(id.description == row[3])
        #expect(try PeerID(row[3]) == id)
        #expect(try PeerID(bytes: id.bytes) == id)
        #expect(try PeerID(id.cid.description) == id)
        #expect(try PeerID(multihash: id.multihash) == id)
        switch key.kind {
        case .ed25519, .secp256k1: #expect(id.publicKey == key)
        case .rsa, .ecdsa:
            #expect(id.publicKey == nil)
            #expect(id.bytes == [0x12, 0x20] + SHA256.hash(key.protobuf).bytes)
        }
    }
}

@Test func peerIDTakesNoHeap() {
    #expect(MemoryLayout<PeerID>.size == 48)
}

@Test func otherMultihashesAreNoPeerIDs() throws {
    let digest = [UInt8](repeating: 7, count: 32)
    let others: [[UInt8]] = [
        [], [0x00], [0x00, 0x00], [0x12], [0x12, 0x20],
        [0x12, 0x20] + digest.dropLast(),
        [0x12, 0x20] + digest + [0],
        [0x12, 0x1F] + digest.dropLast(),
        [0x13, 0x20] + digest,
        [0x16, 0x20] + digest,
        [0x00, 43] + [UInt8](repeating: 1, count: 43),
        [0x00, 0xFF] + [UInt8](repeating: 1, count: 42),
        [0x00, 0x80, 0x00],
        // Longer spellings of the code and the length.
        [0x92, 0x00, 0x20] + digest,
        [0x12, 0xA0, 0x00] + digest,
        [UInt8](repeating: 0, count: 100_000),
    ]
    for bytes in others {
        #expect(
            failure(of: { () throws(DecodingError) in try PeerID(bytes: bytes) }) != nil, "\(hex(bytes.prefix(40)))")
    }
    #expect(throws: Never.self) { try PeerID(bytes: [0x00, 42] + [UInt8](repeating: 1, count: 42)) }
    #expect(throws: Never.self) { try PeerID(bytes: [0x00, 1, 9]) }
}

@Test func inlinedBytesThatAreNoKeyGiveNone() throws {
    #expect(try PeerID(bytes: [0x00, 1, 9]).publicKey == nil)
    let smallOrder = [0x08, 0x01, 0x12, 0x20, 0x01] + [UInt8](repeating: 0, count: 31)
    #expect(try PeerID(bytes: [0x00, 36] + smallOrder).publicKey == nil)
}

@Test func textsThatAreNoPeerIDsAreRefused() throws {
    #expect(throws: PeerIDError.empty) { try PeerID("") }
    #expect(throws: PeerIDError.tooLong(characterCount: 4000, limit: 128)) {
        try PeerID(String(repeating: "1", count: 4000))
    }
    let notAKey = CID(codec: .raw, multihash: try PeerID(hashed).multihash)
    let version0 = try CID(version0: try PeerID(hashed).multihash)
    for text in [
        " ", ed25519 + " ", " " + ed25519, "1", "11", "12D3", String(ed25519.dropLast()), "0" + ed25519, "Qm", "Qm0OIl",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5O0", "z" + hashed, "bafz", "b", "bafzbeie5745rpv2m6tjyuugywy4d5",
        notAKey.description, "z" + version0.description, "ﬀ", "12D3KooW\0", "/p2p/" + ed25519,
    ] {
        #expect(failure(of: { () throws(PeerIDError) in try PeerID(text) }) != nil, "\(text)")
    }
}

@Test func peerIDsOrderLikeTheirBytes() {
    var random = RandomSource(seed: 3)
    var ids = (0..<100).map { _ in KeyPair(random: &random).peerID }
    ids += (0..<100).compactMap { _ in try? PeerID(bytes: [0x12, 0x20] + random.bytes(32)) }
    ids += (1...42).compactMap { count in try? PeerID(bytes: [0x00, UInt8(count)] + random.bytes(count)) }
    #expect(ids.count == 242)
    for left in ids {
        for right in ids.prefix(50) {
            #expect((left < right) == left.bytes.lexicographicallyPrecedes(right.bytes))
            #expect((left == right) == (left.bytes == right.bytes))
        }
    }
    #expect(Set(ids).count == 242)
}

@Test func addressNamesThePeerAtItsEnd() throws {
    let peer = try PeerID(ed25519)
    let relay = try PeerID(hashed)
    let address = try Multiaddr("/ip4/192.0.2.1/tcp/4001")
    #expect(address.peerID == nil)
    let full = try address.encapsulating(peer: peer)
    #expect(full.description == "/ip4/192.0.2.1/tcp/4001/p2p/\(ed25519)")
    #expect(full.peerID == peer)
    #expect(try full.encapsulating(peer: peer) == full)
    let circuit = try Multiaddr("/ip4/192.0.2.1/tcp/4001/p2p/\(relay)/p2p-circuit")
    #expect(circuit.peerID == nil)
    #expect(try circuit.encapsulating(peer: peer).peerID == peer)
    // An address may hold the hash of an empty key, which is no peer id; other hashes than a peer's it refuses itself.
    #expect((try? Multiaddr(bytes: [0xA5, 0x03, 2, 0x00, 0]))?.peerID == nil)
    #expect(throws: DecodingError.self) { try Multiaddr(bytes: [0xA5, 0x03, 3, 0x11, 1, 9]) }
    #expect(throws: MultiaddrError.self) { try Multiaddr("/unix/tmp/socket").encapsulating(peer: peer) }
}
