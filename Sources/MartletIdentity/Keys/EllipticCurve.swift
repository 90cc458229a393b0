/// The curves that other implementations use for peer keys, in the one encoding that each has.
///
/// A SubjectPublicKeyInfo of a named curve with an uncompressed point starts with bytes that are always the same.
/// Comparing them keeps everything else away from libcrypto's parser, above all curves that bring their own parameters.
enum EllipticCurve {
    /// What comes before the compressed point of a secp256k1 key in a SubjectPublicKeyInfo.
    static let secp256k1Prefix: [UInt8] = [
        0x30, 0x36, 0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01,
        0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x0A, 0x03, 0x22, 0x00,
    ]

    private struct NamedCurve {
        let prefix: [UInt8]
        let coordinateByteCount: Int
    }

    private static let namedCurves: [NamedCurve] = [
        // P-256
        NamedCurve(
            prefix: [
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01,
                0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
            ], coordinateByteCount: 32),
        // P-384
        NamedCurve(
            prefix: [
                0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01,
                0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
            ], coordinateByteCount: 48),
        // P-521
        NamedCurve(
            prefix: [
                0x30, 0x81, 0x9B, 0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01,
                0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23, 0x03, 0x81, 0x86, 0x00, 0x04,
            ], coordinateByteCount: 66),
    ]

    static func check(subjectPublicKeyInfo: [UInt8]) throws(KeyError) {
        for curve in namedCurves where subjectPublicKeyInfo.starts(with: curve.prefix) {
            guard subjectPublicKeyInfo.count == curve.prefix.count + 2 * curve.coordinateByteCount else {
                throw .malformed(reason: "an elliptic curve point of the wrong size")
            }
            return
        }
        throw .unsupported(reason: "an ECDSA key that is not an uncompressed point of P-256, P-384 or P-521")
    }

    static func checkSecp256k1(point: [UInt8]) throws(KeyError) {
        guard point.count == 33, point[0] == 2 || point[0] == 3 else {
            throw .malformed(reason: "not a compressed secp256k1 point of 33 bytes")
        }
    }
}
