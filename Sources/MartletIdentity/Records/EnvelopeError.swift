/// Why a signed envelope, or the record in it, was refused.
public enum EnvelopeError: Error, Hashable, Sendable, CustomStringConvertible {
    /// `field` is larger than what is accepted, in bytes.
    case tooLong(field: String, byteCount: Int, limit: Int)
    /// Not the protobuf message that it should be, or a part is missing.
    case malformed(reason: String)
    /// The signer's key is not one that is accepted.
    case key(KeyError)
    /// Signed by someone else, for another purpose, or changed afterwards.
    case invalidSignature
    /// Something else is in the envelope than was asked for.
    case unexpectedPayloadType([UInt8])
    /// The signer made a record about another peer.
    case foreignPeer(signer: PeerID, subject: PeerID)
    /// More addresses than are accepted in one record.
    case tooManyAddresses(count: Int, limit: Int)

    public var description: String {
        switch self {
        case .tooLong(let field, let byteCount, let limit):
            "the \(field) is \(byteCount) bytes long, the limit is \(limit)"
        case .malformed(let reason): "not a valid signed record: \(reason)"
        case .key(let error): "the signer's key: \(error)"
        case .invalidSignature: "the signature is not valid"
        case .unexpectedPayloadType(let type): "the envelope holds something else, of type \(hexadecimal(type))"
        case .foreignPeer(let signer, let subject): "\(signer) signed a record about \(subject)"
        case .tooManyAddresses(let count, let limit): "the record has \(count) addresses, the limit is \(limit)"
        }
    }
}
