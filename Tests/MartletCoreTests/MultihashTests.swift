import TestVectors
import Testing

@testable import MartletCore

@Test func multihashesFollowTheSpecification() throws {
    for row in try vectors("multihash.tsv") {
        let bytes = try hex(row[2])
        let hash = try Multihash(bytes: bytes)
        #expect(hash.code.rawValue == UInt32(row[0]))
        #expect(hash.digestByteCount == (Int(row[1]) ?? 0) / 8)
        #expect(hash.bytes == bytes)
        #expect(hash.byteCount == bytes.count)
        #expect(try Multihash(code: hash.code, digest: hash.digest) == hash)
    }
}

@Test func digestsOfEveryLengthKeepTheirContent() throws {
    var random = RandomSource(seed: 8)
    var seen: Set<Multihash> = []
    for count in 0...128 {
        let digest = random.bytes(count)
        let hash = try Multihash(code: .identity, digest: digest)
        #expect(hash.digest == digest)
        #expect(hash.digestByteCount == count)
        #expect(hash.withDigest { Array($0) } == digest)
        #expect(try Multihash(bytes: hash.bytes) == hash)
        #expect(seen.insert(hash).inserted)
        #expect(!seen.insert(try Multihash(bytes: hash.bytes)).inserted)
    }
    // A zero more is another digest.
    #expect(try Multihash(code: .identity, digest: [1, 0]) != Multihash(code: .identity, digest: [1]))
    #expect(try Multihash(code: .sha2_256, digest: [1]) != Multihash(code: .identity, digest: [1]))
}

@Test(arguments: [
    (Multihash.Code.identity, 128), (.sha1, 20), (.sha2_256, 32), (.sha2_512, 64), (.blake2b256, 32),
    (.blake3, 64), (Multihash.Code(rawValue: 0x30_0000), 64),
])
func digestsLongerThanTheirFunctionMakesThemAreRefused(code: Multihash.Code, limit: Int) throws {
    let longest = try Multihash(code: code, digest: [UInt8](repeating: 7, count: limit))
    #expect(try Multihash(bytes: longest.bytes) == longest)
    let error = DecodingError.tooLong(field: "multihash digest", length: UInt64(limit + 1), limit: limit)
    #expect(throws: error) { try Multihash(code: code, digest: [UInt8](repeating: 7, count: limit + 1)) }
    var bytes: [UInt8] = []
    Varint.append(UInt64(code.rawValue), to: &bytes)
    Varint.append(UInt64(limit + 1), to: &bytes)
    // The length alone is enough to refuse it.
    #expect(throws: error) { try Multihash(bytes: bytes) }
}

@Test func aMultihashCutShortIsRefusedAndTheReaderStays() throws {
    let bytes = try Multihash(code: .sha2_256, digest: [UInt8](0..<32)).bytes
    for count in 0..<bytes.count {
        let part = Array(bytes[..<count])
        var reader = ByteReader(part.span.bytes)
        #expect(throws: DecodingError.self) { try Multihash(reading: &reader) }
        #expect(reader.position == 0)
    }
    #expect(throws: DecodingError.trailingBytes(2)) { try Multihash(bytes: bytes + [0, 0]) }
}

@Test func numbersThatAreNoHashFunctionAreRefused() {
    #expect(throws: DecodingError.self) { try Multihash(bytes: Varint.encode(1 << 40) + [1, 1]) }
    #expect(throws: DecodingError.varintNotMinimal) { try Multihash(bytes: [0x92, 0x00, 0x01, 0x07]) }
    #expect(throws: DecodingError.tooLong(field: "multihash digest", length: UInt64(Int64.max), limit: 32)) {
        try Multihash(bytes: [0x12] + Varint.encode(UInt64(Int64.max)))
    }
}

@Test func identifiersTakeNoHeapForTheDigestsOfTheMesh() {
    #expect(MemoryLayout<Multihash>.stride == 48)
    #expect(MemoryLayout<CID>.stride == 56)
}
