/// Why a Noise handshake failed.
public enum NoiseError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A handshake message longer than `limit`; the protocol would allow 65,535.
    case messageTooLong(Int, limit: Int)
    /// A handshake message too short for the keys it must carry.
    case messageTooShort(Int)
    /// A handshake message that was changed on the way, or answers another one.
    case notAuthentic
    /// A public key of small order, with which no secret can be agreed on.
    case weakKey
    /// The payload with the peer's identity cannot be read.
    case malformedPayload(String)
    /// The peer's identity key cannot be used.
    case badIdentityKey(String)
    /// The peer's identity did not sign the key that the handshake was made with.
    case badSignature

    public var description: String {
        switch self {
        case .messageTooLong(let count, let limit): "a Noise handshake message of \(count) bytes; the limit is \(limit)"
        case .messageTooShort(let count): "a Noise handshake message of only \(count) bytes"
        case .notAuthentic: "a Noise handshake message is not authentic"
        case .weakKey: "the peer sent a Noise key of small order"
        case .malformedPayload(let reason): "the Noise handshake payload is malformed: \(reason)"
        case .badIdentityKey(let reason): "the peer's identity key cannot be used: \(reason)"
        case .badSignature: "the peer's identity did not sign its Noise key"
        }
    }
}
