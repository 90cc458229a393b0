import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

/// NIST's examples for SHA-256 (FIPS 180-4).
private let examples: [(message: String, digest: String)] = [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
]

@Test func examplesOfTheStandardHashAsTheyShould() {
    for (message, digest) in examples {
        #expect(SHA256.hash(Array(message.utf8)).description == digest)
        #expect(SHA256.hash(Bytes(utf8: message)).description == digest)
        #expect(SHA256.hash(Array(message.utf8).span.bytes).description == digest)
    }
}

@Test func piecesHashLikeTheWhole() {
    let message = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
    var hasher = SHA256.Hasher()
    for size in [1, 3, 63, 64, 65, 1000] {
        var rest = message[...]
        while !rest.isEmpty {
            hasher.update(Array(rest.prefix(size)))
            rest = rest.dropFirst(size)
        }
        #expect(hasher.finalize() == SHA256.hash(message))
    }
}

@Test func hasherBeginsAnewAfterEachMessage() {
    var hasher = SHA256.Hasher()
    #expect(hasher.finalize() == SHA256.hash([]))
    hasher.update([1, 2, 3])
    hasher.reset()
    hasher.update(Bytes([UInt8]()))
    #expect(hasher.finalize() == SHA256.hash([]))
}

@Test func copiedHasherGoesItsOwnWay() {
    var first = SHA256.Hasher()
    first.update([1])
    var second = first.copy()
    first.update([2])
    second.update([3])
    #expect(first.finalize() == SHA256.hash([1, 2]))
    #expect(second.finalize() == SHA256.hash([1, 3]))
}

@Test func digestsKeepTheirBytesAndOrderByThem() throws {
    var random = RandomSource(seed: 1)
    let digests = try (0..<200).map { index in
        var bytes = random.bytes(32)
        // Pairs that differ only further back.
        if index.isMultiple(of: 2) { bytes.replaceSubrange(0..<24, with: [UInt8](repeating: 7, count: 24)) }
        return try Digest(bytes: bytes)
    }
    for (left, right) in zip(digests, digests.dropFirst()) {
        #expect((left < right) == left.bytes.lexicographicallyPrecedes(right.bytes))
    }
    for digest in digests { #expect(try Digest(bytes: digest.bytes) == digest) }
    #expect(failure(of: { () throws(DecodingError) in try Digest(bytes: [1, 2, 3]) }) != nil)
    #expect(MemoryLayout<Digest>.size == 32)
}
