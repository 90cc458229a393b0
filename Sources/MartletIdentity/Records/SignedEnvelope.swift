internal import MartletCore
internal import SwiftProtobuf

/// A payload with the signature and public key of whoever vouches for it, valid for one purpose only.
///
///     let envelope = SignedEnvelope.seal(payload, type: [0x03, 0x01], domain: "libp2p-peer-record", with: identity)
///     send(envelope.bytes)
///
///     let received = try SignedEnvelope.open(bytes, type: [0x03, 0x01], domain: "libp2p-peer-record")
///     use(received.payload, from: received.publicKey.peerID)
///
/// The purpose (domain) is signed but not sent: an envelope made for one purpose fails its check for every other.
///
/// Specification: libp2p/specs RFC 0002, with the field numbers that implementations use (signature = 5).
public struct SignedEnvelope: Hashable, Sendable {
    /// The signer's.
    public let publicKey: PublicKey
    /// What the payload is: a multicodec, as raw bytes.
    public let payloadType: [UInt8]
    public let payload: [UInt8]
    public let signature: [UInt8]

    /// The largest envelope that is accepted unless the caller says otherwise.
    public static let defaultMaximumByteCount = 16 * 1024
    /// The largest payload type that is accepted.
    public static let maximumPayloadTypeByteCount = 64
    /// The largest signature that is accepted: RSA of 8192 bits.
    public static let maximumSignatureByteCount = 1024

    /// Signs `payload` for one purpose.
    public static func seal(
        _ payload: [UInt8], type payloadType: [UInt8], domain: String, with keyPair: KeyPair
    ) -> SignedEnvelope {
        precondition(!domain.isEmpty && !payloadType.isEmpty, "an envelope needs a domain and a payload type")
        precondition(payloadType.count <= maximumPayloadTypeByteCount, "a payload type of \(payloadType.count) bytes")
        let signature = keyPair.sign(signedBytes(domain: domain, payloadType: payloadType, payload: payload))
        return SignedEnvelope(
            publicKey: keyPair.publicKey, payloadType: payloadType, payload: payload, signature: signature)
    }

    /// Reads an envelope and checks its type and signature, the cheap checks first.
    public static func open(
        _ bytes: [UInt8], type payloadType: [UInt8], domain: String, limit: Int = defaultMaximumByteCount
    ) throws(EnvelopeError) -> SignedEnvelope {
        let envelope = try SignedEnvelope(bytes: bytes, limit: limit)
        guard envelope.payloadType == payloadType else { throw .unexpectedPayloadType(envelope.payloadType) }
        try envelope.verify(domain: domain)
        return envelope
    }

    private init(publicKey: PublicKey, payloadType: [UInt8], payload: [UInt8], signature: [UInt8]) {
        self.publicKey = publicKey
        self.payloadType = payloadType
        self.payload = payload
        self.signature = signature
    }

    /// Reads an envelope of at most `limit` bytes. Nothing in it can be trusted before `verify(domain:)`.
    public init(bytes: [UInt8], limit: Int = defaultMaximumByteCount) throws(EnvelopeError) {
        guard bytes.count <= limit else { throw .tooLong(field: "envelope", byteCount: bytes.count, limit: limit) }
        let message: WireEnvelope
        do {
            message = try WireEnvelope(serializedBytes: bytes)
        } catch {
            throw .malformed(reason: "not an envelope")
        }
        guard message.hasPublicKey else { throw .malformed(reason: "an envelope without public key") }
        guard message.hasSignature else { throw .malformed(reason: "an envelope without signature") }
        payloadType = [UInt8](message.payloadType)
        guard !payloadType.isEmpty else { throw .malformed(reason: "an envelope without payload type") }
        guard payloadType.count <= Self.maximumPayloadTypeByteCount else {
            throw .tooLong(
                field: "payload type", byteCount: payloadType.count, limit: Self.maximumPayloadTypeByteCount)
        }
        signature = [UInt8](message.signature)
        guard signature.count <= Self.maximumSignatureByteCount else {
            throw .tooLong(field: "signature", byteCount: signature.count, limit: Self.maximumSignatureByteCount)
        }
        payload = [UInt8](message.payload)
        do {
            publicKey = try PublicKey(protobuf: [UInt8](message.publicKey))
        } catch {
            throw .key(error)
        }
    }

    /// Throws `invalidSignature` unless the signer made exactly this envelope for the purpose `domain`.
    public func verify(domain: String) throws(EnvelopeError) {
        let message = Self.signedBytes(domain: domain, payloadType: payloadType, payload: payload)
        guard publicKey.isValidSignature(signature, for: message) else { throw .invalidSignature }
    }

    /// The envelope as it is sent.
    public var bytes: [UInt8] {
        var message = WireEnvelope()
        message.publicKey = protobufData(publicKey.protobuf)
        message.payloadType = protobufData(payloadType)
        message.payload = protobufData(payload)
        message.signature = protobufData(signature)
        return serialized(message)
    }

    /// What is signed: domain, type and payload, each after its length, so that no two envelopes sign the same bytes.
    private static func signedBytes(domain: String, payloadType: [UInt8], payload: [UInt8]) -> [UInt8] {
        let domain = Array(domain.utf8)
        var message: [UInt8] = []
        message.reserveCapacity(domain.count + payloadType.count + payload.count + 3 * Varint.maximumByteCount)
        for part in [domain, payloadType, payload] {
            Varint.append(UInt64(part.count), to: &message)
            message += part
        }
        return message
    }
}

extension SignedEnvelope: CustomStringConvertible {
    /// Signer and sizes.
    public var description: String { "envelope by \(publicKey.peerID) with \(payload.count) bytes" }
}
