public import MartletCore

/// Why text is not a peer id.
public enum PeerIDError: Error, Hashable, Sendable, CustomStringConvertible {
    case empty
    case tooLong(characterCount: Int, limit: Int)
    /// Not base58 and no CID, or one of something that is not a peer.
    case malformed(DecodingError)

    public var description: String {
        switch self {
        case .empty: "the peer id is empty"
        case .tooLong(let count, let limit): "the peer id has \(count) characters, the limit is \(limit)"
        case .malformed(let error): "not a peer id: \(error)"
        }
    }
}

extension PeerID: CustomStringConvertible {
    /// The form that people use: base58, `12D3Koo…` for Ed25519 keys, `Qm…` for hashed ones.
    public var description: String { Base58.encode(bytes) }
}

extension PeerID {
    private static let maximumCharacterCount = 128

    /// Reads a peer id as people write it: base58 (`12D3Koo…`, `Qm…`) or a CIDv1 (`bafz…`).
    public init(_ text: String) throws(PeerIDError) {
        guard !text.isEmpty else { throw .empty }
        guard text.utf8.count <= Self.maximumCharacterCount else {
            throw .tooLong(characterCount: text.utf8.count, limit: Self.maximumCharacterCount)
        }
        do throws(DecodingError) {
            // The test of the specification: a base58 multihash begins with one of these, a CID never does.
            if text.hasPrefix("1") || text.hasPrefix("Qm") {
                self = try PeerID(bytes: Base58.decode(text))
            } else {
                self = try PeerID(cid: CID(text))
            }
        } catch {
            throw .malformed(error)
        }
    }

    /// The peer that `cid` names. Throws unless its codec is libp2p-key and its hash one of a peer id.
    public init(cid: CID) throws(DecodingError) {
        guard cid.version == .v1, cid.codec == .libp2pKey else {
            throw .invalid(field: "peer id", reason: "the CID of something else than a libp2p key")
        }
        try self.init(multihash: cid.multihash)
    }

    /// The id as a CID. `cid.text(in: .base32)` is the form that the specification shows, `bafz…`.
    public var cid: CID { CID(codec: .libp2pKey, multihash: multihash) }
}
