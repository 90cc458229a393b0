internal import CLibsodium

/// Ed25519 by libsodium, which follows the strict rules: canonical numbers, no points of small order.
enum Ed25519 {
    static let publicKeyByteCount = 32
    static let seedByteCount = 32
    /// Seed, then public key.
    static let secretKeyByteCount = 64
    static let signatureByteCount = 64

    static func check(publicKey: [UInt8]) throws(KeyError) {
        guard publicKey.count == publicKeyByteCount else {
            throw .malformed(reason: "an Ed25519 key of \(publicKey.count) bytes instead of \(publicKeyByteCount)")
        }
        guard isCanonical(publicKey) else {
            throw .unsafe(reason: "an Ed25519 point that is not in its canonical form")
        }
        guard !smallOrderOrdinates.contains(ordinate(publicKey)) else {
            throw .unsafe(reason: "an Ed25519 point of small order")
        }
    }

    static func isValidSignature(
        _ signature: UnsafeRawBufferPointer, for message: UnsafeRawBufferPointer, publicKey: [UInt8]
    ) -> Bool {
        guard signature.count == signatureByteCount, publicKey.count == publicKeyByteCount,
            let signature = signature.baseAddress?.assumingMemoryBound(to: UInt8.self)
        else { return false }
        Sodium.start()
        return crypto_sign_verify_detached(
            signature, message.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(message.count), publicKey) == 0
    }

    /// The y of a point without the sign of its x.
    private static func ordinate(_ point: [UInt8]) -> [UInt8] { point.dropLast() + [point[31] & 0x7F] }

    /// Whether y is below 2^255 − 19 (RFC 8032, 5.1.3): the larger ones end in 30 bytes of ones.
    private static func isCanonical(_ point: [UInt8]) -> Bool {
        !(point[31] & 0x7F == 0x7F && point[1..<31].allSatisfy { $0 == 0xFF } && point[0] >= 0xED)
    }

    /// The y of the eight points whose order divides 8 (one each for y = 1 and −1, two each for the other three). A
    /// signature under such a key can be made without its private key.
    private static let smallOrderOrdinates: [[UInt8]] = [
        [0] + [UInt8](repeating: 0, count: 31),
        [1] + [UInt8](repeating: 0, count: 31),
        [0xEC] + [UInt8](repeating: 0xFF, count: 30) + [0x7F],
        [
            0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
            0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
        ],
        [
            0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
            0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
        ],
    ]
}
