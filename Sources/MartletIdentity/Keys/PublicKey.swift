public import MartletCore

/// The public key of a peer, with which its signatures are checked and from which its `PeerID` is made.
///
///     let key = try PublicKey(protobuf: bytes)
///     guard key.isValidSignature(signature, for: message) else { … }
///
/// A value of this type has passed every check that is cheap: size, encoding, curve, RSA modulus. Whether the point of
/// an elliptic curve key lies on its curve shows when a signature is checked, which then is not valid.
///
/// Specification: libp2p/specs `peer-ids/peer-ids.md`.
public struct PublicKey: Hashable, Sendable {
    /// The signature scheme. The raw value is the one of the protobuf message.
    public enum Kind: Int, Hashable, Sendable, CaseIterable {
        case rsa = 0
        case ed25519 = 1
        case secp256k1 = 2
        case ecdsa = 3
    }

    /// The signature scheme.
    public let kind: Kind

    /// The key in the form of its kind: Ed25519 32 bytes, secp256k1 a compressed point of 33 bytes, RSA and ECDSA a DER
    /// SubjectPublicKeyInfo.
    public let rawBytes: [UInt8]

    /// The largest encoded key that is accepted: an RSA key of 8192 bits and some room.
    public static let maximumProtobufByteCount = 1200

    /// A key in the form of its kind. Throws when it is not a key that is accepted.
    public init(kind: Kind, rawBytes: [UInt8]) throws(KeyError) {
        guard rawBytes.count <= Self.maximumProtobufByteCount else {
            throw .tooLong(byteCount: rawBytes.count, limit: Self.maximumProtobufByteCount)
        }
        switch kind {
        case .ed25519: try Ed25519.check(publicKey: rawBytes)
        case .secp256k1: try EllipticCurve.checkSecp256k1(point: rawBytes)
        case .ecdsa: try EllipticCurve.check(subjectPublicKeyInfo: rawBytes)
        case .rsa: try RSA.check(subjectPublicKeyInfo: rawBytes)
        }
        self.kind = kind
        self.rawBytes = rawBytes
    }

    /// The key of a key pair of ours, which needs no check.
    init(ed25519 rawBytes: [UInt8]) {
        kind = .ed25519
        self.rawBytes = rawBytes
    }

    /// The id of the peer that holds this key.
    public var peerID: PeerID { PeerID(publicKey: self) }

    /// Whether the holder of this key signed `message`. False, never a trap, for any bytes at all.
    ///
    /// Takes some 50 µs for Ed25519 and up to 1 ms for the others. RSA is PKCS #1 v1.5 and ECDSA is DER, both over SHA-256.
    public func isValidSignature(_ signature: UnsafeRawBufferPointer, for message: UnsafeRawBufferPointer) -> Bool {
        switch kind {
        case .ed25519:
            Ed25519.isValidSignature(signature, for: message, publicKey: rawBytes)
        case .secp256k1:
            Libcrypto.isValidSignature(
                signature, for: message, subjectPublicKeyInfo: EllipticCurve.secp256k1Prefix + rawBytes)
        case .ecdsa, .rsa:
            Libcrypto.isValidSignature(signature, for: message, subjectPublicKeyInfo: rawBytes)
        }
    }

    /// Whether the holder of this key signed `message`. False, never a trap, for any bytes at all.
    public func isValidSignature(_ signature: [UInt8], for message: [UInt8]) -> Bool {
        signature.withUnsafeBytes { signature in message.withUnsafeBytes { isValidSignature(signature, for: $0) } }
    }

    /// Whether the holder of this key signed `message`. False, never a trap, for any bytes at all.
    public func isValidSignature(_ signature: Bytes, for message: Bytes) -> Bool {
        signature.withUnsafeBytes { signature in message.withUnsafeBytes { isValidSignature(signature, for: $0) } }
    }
}

extension PublicKey: CustomStringConvertible {
    /// The kind and the peer id.
    public var description: String { "\(kind) key of \(peerID)" }
}
