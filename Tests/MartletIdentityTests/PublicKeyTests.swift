import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

private let message = Array("martlet signature test".utf8)

/// The keys of signatures.tsv that are refused, and why.
private let refused: [String: KeyError] = [
    "rsa-1024": .rsaModulusSize(bitCount: 1024),
    "rsa-9216": .rsaModulusSize(bitCount: 9216),
    "ecdsa-p224": .unsupported(reason: "an ECDSA key that is not an uncompressed point of P-256, P-384 or P-521"),
    "ecdsa-brainpool256": .unsupported(
        reason: "an ECDSA key that is not an uncompressed point of P-256, P-384 or P-521"),
    "secp256k1-uncompressed": .malformed(reason: "not a compressed secp256k1 point of 33 bytes"),
]

private func key(named name: String) throws -> (key: [UInt8], signature: [UInt8]) {
    let row = try #require(try vectors("signatures.tsv").first { $0[0] == name })
    return (try hex(row[1]), try hex(row[2]))
}

@Test func keysOfTheSpecificationAreReadAndWritten() throws {
    for row in try vectors("keys.tsv") {
        let bytes = try hex(row[2])
        let key = try PublicKey(protobuf: bytes)
        #expect("\(key.kind)" == row[0])
        #expect(key.protobuf == bytes)
        #expect(key.peerID.description == row[3])
        #expect(key == (try PublicKey(kind: key.kind, rawBytes: key.rawBytes)))
    }
}

@Test func signaturesByOpenSSLVerify() throws {
    for row in try vectors("signatures.tsv") {
        let name = row[0]
        if let reason = refused[name] {
            #expect(
                failure(of: { () throws(KeyError) in try PublicKey(protobuf: try! hex(row[1])) }) == reason, "\(name)")
            continue
        }
        let key = try PublicKey(protobuf: hex(row[1]))
        let signature = try hex(row[2])
        // Two are made otherwise than libp2p says: PSS padding, and another hash.
        let isValid = !name.hasSuffix("-pss") && !name.hasSuffix("-sha512")
        #expect(key.isValidSignature(signature, for: message) == isValid, "\(name)")
        #expect(!key.isValidSignature(signature, for: message + [0]), "\(name)")
        #expect(!key.isValidSignature(signature + [0], for: message), "\(name)")
        #expect(!key.isValidSignature([], for: message), "\(name)")
        #expect(!key.isValidSignature([UInt8](repeating: 0, count: signature.count), for: message), "\(name)")
        for position in stride(from: 0, to: signature.count, by: 7) {
            var changed = signature
            changed[position] ^= 0x10
            #expect(!key.isValidSignature(changed, for: message), "\(name)")
        }
    }
}

@Test func ed25519FollowsTheStrictRules() throws {
    for row in try vectors("ed25519.tsv") {
        let (name, publicKey, signature, message) = (row[0], try hex(row[1]), try hex(row[2]), try hex(row[3]))
        let key = try? PublicKey(kind: .ed25519, rawBytes: publicKey)
        #expect((key != nil) == (row[5] == "accepted"), "\(name)")
        // Also below the check of the key, should it be wrong.
        let isValid = signature.withUnsafeBytes { signature in
            message.withUnsafeBytes { Ed25519.isValidSignature(signature, for: $0, publicKey: publicKey) }
        }
        #expect(isValid == (row[4] == "valid"), "\(name)")
        if let key { #expect(key.isValidSignature(signature, for: message) == isValid, "\(name)") }
    }
}

@Test func pointsOfSmallOrderAreRefused() throws {
    // All encodings of the eight points, with either sign, and those of y = 0 and 1 that are not reduced.
    let ordinates = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ]
    for ordinate in ordinates {
        for sign: UInt8 in [0, 0x80] {
            var point = try hex(ordinate)
            point[31] |= sign
            let error = failure { () throws(KeyError) in try PublicKey(protobuf: [8, 1, 0x12, 32] + point) }
            guard case .unsafe = error else {
                Issue.record("\(hex(point)): \(error.map { "\($0)" } ?? "accepted")")
                continue
            }
        }
    }
}

@Test func pointsThatAreNotReducedAreRefused() {
    for low in UInt8(0xED)...0xFF {
        for sign: UInt8 in [0x7F, 0xFF] {
            let point = [low] + [UInt8](repeating: 0xFF, count: 30) + [sign]
            #expect(throws: KeyError.self) { try PublicKey(kind: .ed25519, rawBytes: point) }
        }
    }
    // One below the modulus is the point of order 2; two below is reduced and of large order or not on the curve.
    let below = [0xEB] + [UInt8](repeating: 0xFF, count: 30) + [0x7F]
    #expect(throws: Never.self) { try PublicKey(kind: .ed25519, rawBytes: below) }
}

@Test func onlyTheDeterministicEncodingIsTaken() throws {
    let raw = KeyPair.generate().publicKey.rawBytes
    let canonical = [0x08, 0x01] + field(2, raw)
    #expect(try PublicKey(protobuf: canonical).protobuf == canonical)
    let others: [String: [UInt8]] = [
        "data first": field(2, raw) + [0x08, 0x01],
        "unknown field": canonical + [0x18, 0x00],
        "type twice": [0x08, 0x01] + canonical,
        "data twice": canonical + field(2, raw),
        "long varint for the type": [0x08, 0x81, 0x00] + field(2, raw),
        "long varint for the length": [0x08, 0x01, 0x12, 0xA0, 0x00] + raw,
        "no type": field(2, raw),
        "no data": [0x08, 0x01],
        "unknown type": [0x08, 0x04] + field(2, raw),
        "negative type": [0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01] + field(2, raw),
        "empty": [],
        "length beyond the end": [0x08, 0x01, 0x12, 0x21] + raw,
        "length of 2^63": [0x08, 0x01, 0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        "short point": [0x08, 0x01] + field(2, Array(raw.dropLast())),
        "long point": [0x08, 0x01] + field(2, raw + [0]),
    ]
    for (name, bytes) in others {
        #expect(failure(of: { () throws(KeyError) in try PublicKey(protobuf: bytes) }) != nil, "\(name)")
    }
    for count in 0..<canonical.count {
        #expect(throws: KeyError.self) { try PublicKey(protobuf: Array(canonical.prefix(count))) }
    }
}

@Test func keysBeyondTheSizeLimitAreRefusedUnread() {
    let limit = PublicKey.maximumProtobufByteCount
    let error = failure { () throws(KeyError) in
        try PublicKey(protobuf: [UInt8](repeating: 0x08, count: limit + 1))
    }
    #expect(error == .tooLong(byteCount: limit + 1, limit: limit))
    #expect(throws: KeyError.tooLong(byteCount: 5000, limit: limit)) {
        try PublicKey(kind: .rsa, rawBytes: [UInt8](repeating: 0x30, count: 5000))
    }
}

@Test func truncatedAndChangedKeysOfAllKindsNeverTrap() throws {
    for name in ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "secp256k1"] {
        let (bytes, signature) = try key(named: name)
        for count in 0..<bytes.count {
            #expect(throws: KeyError.self) { try PublicKey(protobuf: Array(bytes.prefix(count))) }
        }
        for position in bytes.indices.prefix(40) {
            var changed = bytes
            changed[position] ^= 0x01
            guard let key = try? PublicKey(protobuf: changed) else { continue }
            #expect(!key.isValidSignature(signature, for: message))
        }
    }
}

@Test func pointsThatAreNotOnTheirCurveVerifyNothing() throws {
    let (bytes, signature) = try key(named: "ecdsa-p256")
    var changed = bytes
    changed[changed.count - 1] ^= 1
    #expect(!(try PublicKey(protobuf: changed)).isValidSignature(signature, for: message))
    for last: UInt8 in 0..<8 {
        let point = [2] + [UInt8](repeating: 0, count: 31) + [last]
        #expect(!(try PublicKey(kind: .secp256k1, rawBytes: point)).isValidSignature(signature, for: message))
    }
    let beyondTheField = [3] + [UInt8](repeating: 0xFF, count: 32)
    #expect(!(try PublicKey(kind: .secp256k1, rawBytes: beyondTheField)).isValidSignature(signature, for: message))
}

// MARK: - RSA

private func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    switch content.count {
    case ..<0x80: [tag, UInt8(content.count)] + content
    case ..<0x100: [tag, 0x81, UInt8(content.count)] + content
    default: [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 0xFF)] + content
    }
}

private let rsaAlgorithm = element(
    0x30, element(0x06, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01]) + [0x05, 0x00])

private func rsaKey(modulus: [UInt8], exponent: [UInt8], algorithm: [UInt8] = rsaAlgorithm) -> [UInt8] {
    let numbers = element(0x30, element(0x02, modulus) + element(0x02, exponent))
    return element(0x30, algorithm + element(0x03, [0] + numbers))
}

/// An odd modulus of that many bits, as a DER integer.
private func modulus(bitCount: Int) -> [UInt8] {
    let (bytes, bits) = bitCount.isMultiple(of: 8) ? (bitCount / 8, 8) : (bitCount / 8 + 1, bitCount % 8)
    let number = [UInt8(1 << (bits - 1))] + [UInt8](repeating: 0x5A, count: bytes - 2) + [1]
    return bits == 8 ? [0] + number : number
}

private func refusal(_ bytes: [UInt8]) -> KeyError? {
    failure { () throws(KeyError) in try PublicKey(kind: .rsa, rawBytes: bytes) }
}

@Test func rsaModulusIsBounded() {
    let exponent: [UInt8] = [1, 0, 1]
    for bitCount in [2048, 2049, 3000, 4096, 8191, 8192] {
        #expect(refusal(rsaKey(modulus: modulus(bitCount: bitCount), exponent: exponent)) == nil, "\(bitCount)")
    }
    for bitCount in [512, 1024, 2047, 8193, 9000] {
        #expect(
            refusal(rsaKey(modulus: modulus(bitCount: bitCount), exponent: exponent))
                == .rsaModulusSize(bitCount: bitCount))
    }
}

@Test func rsaKeysOfNoHonestGeneratorAreRefused() {
    let good = modulus(bitCount: 2048)
    #expect(refusal(rsaKey(modulus: good, exponent: [3])) == nil)
    #expect(refusal(rsaKey(modulus: good, exponent: [0x7F, 0xFF, 0xFF, 0xFF])) == nil)
    for exponent: [UInt8] in [[1], [2], [0x01, 0x00, 0x00], [0x00, 0x80, 0x00, 0x00, 0x01], [0]] {
        #expect(refusal(rsaKey(modulus: good, exponent: exponent)) != nil, "\(exponent)")
    }
    #expect(
        refusal(rsaKey(modulus: Array(good.dropLast()) + [2], exponent: [3])) == .unsafe(reason: "an even RSA modulus"))
    // An exponent as long as the modulus makes a check cost what a signature does.
    #expect(refusal(rsaKey(modulus: modulus(bitCount: 4000), exponent: modulus(bitCount: 4000))) != nil)
}

@Test func rsaKeysInOtherEncodingsAreRefused() {
    let good = modulus(bitCount: 2048)
    let numbers = element(0x30, element(0x02, good) + element(0x02, [3]))
    let others: [String: [UInt8]] = [
        "negative modulus": rsaKey(modulus: Array(good.dropFirst()), exponent: [3]),
        "padded modulus": rsaKey(modulus: [0] + good, exponent: [3]),
        "padded exponent": rsaKey(modulus: good, exponent: [0, 3]),
        "empty modulus": rsaKey(modulus: [], exponent: [3]),
        "empty exponent": rsaKey(modulus: good, exponent: []),
        "other algorithm": rsaKey(
            modulus: good, exponent: [3], algorithm: element(0x30, element(0x06, [0x2A, 0x03]) + [0x05, 0x00])),
        "no parameters": rsaKey(
            modulus: good, exponent: [3],
            algorithm: element(0x30, element(0x06, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01]))),
        "trailing byte": rsaKey(modulus: good, exponent: [3]) + [0],
        "trailing number": element(
            0x30,
            rsaAlgorithm
                + element(0x03, [0] + element(0x30, element(0x02, good) + element(0x02, [3]) + element(0x02, [3])))),
        "loose bits": element(0x30, rsaAlgorithm + element(0x03, [1] + numbers)),
        "nothing in the bit string": element(0x30, rsaAlgorithm + element(0x03, [])),
        "bare numbers": numbers,
        "long form of a short length": [0x30, 0x81, 0x03] + [1, 2, 3],
        "indefinite length": [0x30, 0x80] + rsaAlgorithm + [0, 0],
        "length of four bytes": [0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
        "empty": [],
    ]
    for (name, bytes) in others { #expect(refusal(bytes) != nil, "\(name)") }
}
