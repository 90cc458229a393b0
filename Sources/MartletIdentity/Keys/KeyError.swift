/// Why a key was refused. Nothing of the key itself is in here.
public enum KeyError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The encoding is larger than any key that is accepted.
    case tooLong(byteCount: Int, limit: Int)
    /// Not the message that it should be, or not in the one encoding that peer ids are made from.
    case malformed(reason: String)
    /// A kind of key that is unknown or not offered, such as a private key other than Ed25519.
    case unsupported(reason: String)
    /// An RSA modulus outside of 2048 to 8192 bits: weak, or made to burn time.
    case rsaModulusSize(bitCount: Int)
    /// A key that no honest generator makes, such as a point of small order.
    case unsafe(reason: String)
    /// A private key whose public half belongs to another key.
    case halvesDiffer

    public var description: String {
        switch self {
        case .tooLong(let byteCount, let limit): "the key is \(byteCount) bytes long, the limit is \(limit)"
        case .malformed(let reason): "not a valid key: \(reason)"
        case .unsupported(let reason): "this kind of key is not supported: \(reason)"
        case .rsaModulusSize(let bitCount): "the RSA key has \(bitCount) bits, accepted are 2048 to 8192"
        case .unsafe(let reason): "the key is not safe to use: \(reason)"
        case .halvesDiffer: "the public half does not belong to the private key"
        }
    }
}
