/// Why a peer's certificate was refused (libp2p/specs `tls/tls.md`).
public enum CertificateError: Error, Hashable, Sendable, CustomStringConvertible {
    case none
    case several(count: Int)
    case tooLong(byteCount: Int, limit: Int)
    case malformed
    case notValidNow
    case badSelfSignature
    /// A critical extension that nobody here knows, as the hexadecimal DER of its object identifier.
    case unknownCriticalExtension(String)
    case noPeerKey
    case malformedPeerKey
    case badPeerSignature

    public var description: String {
        switch self {
        case .none: "the peer has shown no certificate"
        case .several(let count): "the peer sent \(count) certificates instead of one"
        case .tooLong(let byteCount, let limit): "the certificate is \(byteCount) bytes long, the limit is \(limit)"
        case .malformed: "the certificate is malformed"
        case .notValidNow: "the certificate is not valid at this time"
        case .badSelfSignature: "the certificate is not signed with its own key"
        case .unknownCriticalExtension(let name): "the certificate has the unknown critical extension \(name)"
        case .noPeerKey: "the certificate names no peer key"
        case .malformedPeerKey: "the peer key in the certificate is malformed or of no accepted kind"
        case .badPeerSignature: "the peer's signature of the certificate's key is not valid"
        }
    }
}
