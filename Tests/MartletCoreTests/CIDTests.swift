import TestVectors
import Testing

@testable import MartletCore

// sha2-256 of "foo"; the texts are those of multiformats/rust-cid dd184f1, tests/lib.rs.
private let digestOfFoo = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

@Test func cidsOfFooAreThoseOfOtherImplementations() throws {
    let hash = try Multihash(code: .sha2_256, digest: hex(digestOfFoo))
    let raw = CID(codec: .raw, multihash: hash)
    #expect(raw.description == "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy")
    #expect(raw.text(in: .base64) == "mAVUSICwmtGto/8aP+ZtFPB0wQTQTQi1wZIO/oPmKXohiZueu")
    #expect(try CID(raw.description) == raw)
    #expect(try CID(raw.text(in: .base64)) == raw)
    #expect(raw.version0 == nil)

    let old = try CID(version0: hash)
    #expect(old.description == "QmRJzsvyCQyizr73Gmms8ZRtvNxmgqumxc2KUp71dfEmoj")
    #expect(old.text(in: .base32) == old.description)
    #expect(old.version == .v0)
    #expect(old.codec == .dagPB)
    #expect(old != old.version1)
    #expect(old.version1.version0 == old)
}

// rust-cid dd184f1 (test_into_v1, v0_handling) and go-cid 707ffd0 (TestReadCidsFromBuffer, TestHexDecode).
@Test(arguments: [
    ("QmTPcW343HGMdoxarwvHHoPhkbo5GfNYjnZkyW5DBtpvLe", "bafybeiclbsxcvqpfliqcejqz5ghpvw4r7vktjkyk3ruvjvdmam5azct2v4"),
    (
        "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4",
        "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4"
    ),
    (
        "f015512209d8453505bdc6f269678e16b3e56c2a2948a41f2c792617cc9611ed363c95b63",
        "bafkreie5qrjvaw64n4tjm6hbnm7fnqvcssfed4whsjqxzslbd3jwhsk3mm"
    ),
    (
        "zb2rhZi1JR4eNc2jBGaRYJKYM8JEB4ovenym8L1CmFsRAytkz",
        "bafkreibnq5vcp7jmke7jebmdhdyzz5b4df7ibibpwauerz4pz3vqaae26m"
    ),
    (
        "bafkqarjpmzuwyzltorxxezjpkvcfgqkfjfbfcvslivje2vchkzdu6rckjjcfgtkolaze6mssjqzeyn2ekrcfatkjku2vowseky3fswkfkm2deqkrju3e2",
        "bafkqarjpmzuwyzltorxxezjpkvcfgqkfjfbfcvslivje2vchkzdu6rckjjcfgtkolaze6mssjqzeyn2ekrcfatkjku2vowseky3fswkfkm2deqkrju3e2"
    ),
])
func cidsOfOtherImplementationsAreRead(text: String, version1: String) throws {
    let cid = try CID(text)
    #expect(cid.version1.text(in: .base32) == version1)
    #expect(try CID(bytes: cid.bytes) == cid)
    #expect(try CID(version1).version1 == cid.version1)
    #expect(cid.byteCount == cid.bytes.count)
}

@Test func aKeyIsWrittenInBase36() throws {
    let cid = try CID("bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u")
    #expect(cid.codec == .libp2pKey)
    #expect(cid.multihash.code == .identity)
    #expect(cid.description.hasPrefix("k51"))
    #expect(try CID(cid.description) == cid)
}

@Test(arguments: [
    "", "b", "Qm", "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zIII", "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1",
    // Version 0 behind a prefix.
    "zQmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n", "f1220" + digestOfFoo,
    // Versions 2 and 3 do not exist, nor does an explicit version 0.
    "f02551220" + digestOfFoo, "f03551220" + digestOfFoo, "f00701220" + digestOfFoo,
    // A byte too many, a byte too few, a padded varint.
    "f01551220" + digestOfFoo + "00", "f01551220" + digestOfFoo.dropLast(2), "f01d5001220" + digestOfFoo,
    "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhv", "/ipfs/bafkqaaa", "bafkqaaa\n", "🐦🐦",
])
func textThatIsNoCIDIsRefused(text: String) {
    #expect(throws: DecodingError.self) { try CID(text) }
}

@Test func longTextIsNoCID() {
    #expect(throws: DecodingError.tooLong(field: "CID", length: 1_000_001, limit: CID.maximumTextByteCount)) {
        try CID("b" + String(repeating: "a", count: 1_000_000))
    }
}

@Test func everyCIDHasATextThatIsRead() throws {
    // The longest there is, in the encoding with the longest text.
    let longest = CID(
        codec: CID.Codec(rawValue: .max - 1),
        multihash: try Multihash(code: .identity, digest: [UInt8](repeating: 0xFF, count: 128)))
    for base in Multibase.allCases {
        #expect(try CID(longest.text(in: base)) == longest)
    }
}

@Test func cidsAreReadOneAfterAnother() throws {
    let hash = try Multihash(code: .sha2_256, digest: hex(digestOfFoo))
    let cids = [CID(codec: .raw, multihash: hash), try CID(version0: hash), CID(codec: .dagJSON, multihash: hash)]
    var bytes: [UInt8] = []
    for cid in cids { cid.append(to: &bytes) }
    var reader = ByteReader(bytes.span.bytes)
    for cid in cids { #expect(try CID(reading: &reader) == cid) }
    #expect(reader.remaining == 0)
    #expect(throws: DecodingError.self) { try CID(reading: &reader) }
    #expect(throws: DecodingError.trailingBytes(bytes.count - cids[0].byteCount)) { try CID(bytes: bytes) }
    #expect(Set(cids).count == 3)
    #expect(cids.sorted() == cids.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) })
}

@Test func aCIDCutShortLeavesTheReaderBeforeIt() throws {
    for text in [
        "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy", "QmRJzsvyCQyizr73Gmms8ZRtvNxmgqumxc2KUp71dfEmoj",
    ] {
        let bytes = try CID(text).bytes
        for count in 0..<bytes.count {
            let part = Array(bytes[..<count])
            var reader = ByteReader(part.span.bytes)
            #expect(throws: DecodingError.self) { try CID(reading: &reader) }
            #expect(reader.position == 0)
        }
    }
}

@Test func versionZeroTakesWholeSHA256Only() throws {
    for count in 0..<32 {
        let hash = try Multihash(code: .sha2_256, digest: [UInt8](repeating: 7, count: count))
        #expect(throws: DecodingError.self) { try CID(version0: hash) }
        #expect(throws: DecodingError.self) { try CID(bytes: hash.bytes) }
        #expect(CID(codec: .dagPB, multihash: hash).version0 == nil)
    }
}
