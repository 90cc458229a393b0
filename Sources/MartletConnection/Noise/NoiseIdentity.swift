public import MartletCore
public import MartletIdentity
import SwiftProtobuf

/// What a node proves itself with in every Noise handshake: a static Noise key and its identity's signature over it.
///
///     let identity = NoiseIdentity(identity: keyPair, random: &random)
///     let connection = SecureConnection(role: .dialer, identity: identity, …)
///
/// Made once per node and shared by its connections, which saves each of them a key generation and a signature.
///
/// Specification: libp2p/specs `noise/README.md`, Static Key Authentication.
public final class NoiseIdentity: Sendable {
    public let identity: KeyPair
    let staticKey: NoiseStaticKey
    /// The payload of the second or third handshake message: key, signature and muxers. The same on every connection.
    let payload: [UInt8]

    public init(identity: KeyPair, random: inout RandomSource) {
        self.identity = identity
        staticKey = NoiseStaticKey(random: &random)
        let signed = NoisePayload.signaturePrefix + staticKey.publicKey
        payload =
            NoisePayload(
                identityKey: identity.publicKey.protobuf, signature: identity.sign(signed),
                muxers: [YamuxSession.protocolID]
            ).encoded
    }
}

/// The libp2p payload of a Noise handshake message.
@_spi(Fuzzing)
public struct NoisePayload: Hashable, Sendable {
    static let signaturePrefix = Array("noise-libp2p-static-key:".utf8)
    /// How many muxers a peer may name.
    static let muxerLimit = 32

    public var identityKey: [UInt8]
    public var signature: [UInt8]
    /// The muxers offered, best first; empty when the peer leaves that to multistream-select.
    public var muxers: [String]

    public init(identityKey: [UInt8], signature: [UInt8], muxers: [String]) {
        self.identityKey = identityKey
        self.signature = signature
        self.muxers = muxers
    }

    /// Reads a payload. The size is bounded by the handshake message that it came in.
    public init(decoding bytes: [UInt8]) throws(NoiseError) {
        let message: WireNoiseHandshakePayload
        do {
            message = try WireNoiseHandshakePayload(serializedBytes: bytes)
        } catch {
            throw .malformedPayload("not the protobuf message it should be")
        }
        guard message.hasIdentityKey else { throw .malformedPayload("no identity key") }
        guard message.hasIdentitySig else { throw .malformedPayload("no signature") }
        guard message.extensions.streamMuxers.count <= Self.muxerLimit else {
            throw .malformedPayload("\(message.extensions.streamMuxers.count) muxers; the limit is \(Self.muxerLimit)")
        }
        identityKey = [UInt8](message.identityKey)
        signature = [UInt8](message.identitySig)
        muxers = message.extensions.streamMuxers
    }

    public var encoded: [UInt8] {
        var message = WireNoiseHandshakePayload()
        message.identityKey = protobufData(identityKey)
        message.identitySig = protobufData(signature)
        if !muxers.isEmpty { message.extensions.streamMuxers = muxers }
        do {
            return try message.serializedBytes()
        } catch {
            preconditionFailure("a message without required fields cannot fail to encode: \(error)")
        }
    }

    /// The identity that signed the static key of this handshake.
    public func verify(staticKey: [UInt8]) throws(NoiseError) -> PublicKey {
        let key: PublicKey
        do {
            key = try PublicKey(protobuf: identityKey)
        } catch {
            throw .badIdentityKey("\(error)")
        }
        guard key.isValidSignature(signature, for: Self.signaturePrefix + staticKey) else { throw .badSignature }
        return key
    }
}

/// `bytes` as the type of a protobuf `bytes` field, which is Foundation's and not to be imported.
private func protobufData<Data: SwiftProtobufContiguousBytes>(_ bytes: [UInt8]) -> Data { Data(bytes) }
