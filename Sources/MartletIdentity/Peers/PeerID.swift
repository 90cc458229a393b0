public import MartletCore

/// The name of a peer: a multihash of its public key, in 48 bytes without heap memory.
///
///     let peer = try PeerID("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
///     guard peer == connection.remotePeer else { … }
///
/// Keys of up to 42 encoded bytes (Ed25519, secp256k1) are contained in the id itself, longer ones (RSA, ECDSA) are
/// represented by their SHA-256.
///
/// Specification: libp2p/specs `peer-ids/peer-ids.md`.
@frozen
public struct PeerID: Hashable, Sendable {
    // The multihash in memory order, then zeros: code, length, digest. The length says where the zeros begin.
    @usableFromInline var word0: UInt64 = 0
    @usableFromInline var word1: UInt64 = 0
    @usableFromInline var word2: UInt64 = 0
    @usableFromInline var word3: UInt64 = 0
    @usableFromInline var word4: UInt64 = 0
    @usableFromInline var word5: UInt64 = 0

    /// Keys up to this size are their own hash.
    static let maximumInlineKeyByteCount = 42
    /// The longest id: code, length and an inlined key.
    public static let maximumByteCount = 2 + maximumInlineKeyByteCount

    private enum Code {
        static let identity: UInt8 = 0x00
        static let sha256: UInt8 = 0x12
    }

    /// The id of the peer that holds `publicKey`.
    public init(publicKey: PublicKey) {
        let key = publicKey.protobuf
        if key.count <= Self.maximumInlineKeyByteCount {
            write([Code.identity, UInt8(key.count)] + key)
        } else {
            write([Code.sha256, UInt8(Digest.byteCount)] + SHA256.hash(key).bytes)
        }
    }

    /// The id in binary, as protocols carry it. Throws unless it is an identity or SHA-256 multihash of the right size,
    /// with nothing after it.
    public init(bytes: some Collection<UInt8>) throws(DecodingError) {
        guard bytes.count <= Self.maximumByteCount else {
            throw .tooLong(field: "peer id", length: UInt64(bytes.count), limit: Self.maximumByteCount)
        }
        let bytes = Array(bytes)
        guard bytes.count > 2 else { throw .truncated(needed: 3, remaining: bytes.count) }
        guard bytes.count == 2 + Int(bytes[1]) else {
            throw .invalid(field: "peer id", reason: "\(bytes.count) bytes with a multihash of another length")
        }
        switch bytes[0] {
        case Code.identity: break
        case Code.sha256 where bytes.count == 2 + Digest.byteCount: break
        default: throw .invalid(field: "peer id", reason: "neither an identity nor a SHA-256 multihash")
        }
        write(bytes)
    }

    /// The id that is `multihash`. Throws unless it is an identity or SHA-256 one of the right size.
    public init(multihash: Multihash) throws(DecodingError) {
        try self.init(bytes: multihash.bytes)
    }

    /// The id as a multihash, which is all it is.
    public var multihash: Multihash {
        do {
            return try Multihash(bytes: bytes)
        } catch {
            preconditionFailure("a peer id is not a multihash: \(error)")
        }
    }

    /// Short enough for the storage: every caller has checked that.
    private mutating func write(_ bytes: [UInt8]) {
        Swift.withUnsafeMutableBytes(of: &self) { $0.copyBytes(from: bytes) }
    }

    /// The number of bytes in binary, 3 to 44.
    public var byteCount: Int { withUnsafeStorage { 2 + Int($0[1]) } }

    /// The id in binary, as protocols carry it.
    public var bytes: [UInt8] { withUnsafeBytes { Array($0) } }

    /// The id in binary. The pointer is valid during the call only.
    public func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try withUnsafeStorage { storage throws(E) -> R in
            // The length was checked when the id was made.
            try body(UnsafeRawBufferPointer(rebasing: storage[..<(2 + Int(storage[1]))]))
        }
    }

    /// All 48 bytes, of a copy that lives as long as the call.
    private func withUnsafeStorage<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try Swift.withUnsafeBytes(of: self) { bytes throws(E) -> R in try body(bytes) }
    }

    /// The public key, when the id contains it and it is one that is accepted.
    public var publicKey: PublicKey? {
        let bytes = bytes
        guard bytes[0] == Code.identity else { return nil }
        return try? PublicKey(protobuf: Array(bytes.dropFirst(2)))
    }
}

extension PeerID: Comparable {
    /// The order of the ids in binary. (The zeros after a shorter id sort it before every longer one that it begins;
    /// two ids with the same first two bytes are of one length anyway.)
    @inlinable
    public static func < (left: PeerID, right: PeerID) -> Bool {
        if left.word0 != right.word0 { return left.word0.bigEndian < right.word0.bigEndian }
        if left.word1 != right.word1 { return left.word1.bigEndian < right.word1.bigEndian }
        if left.word2 != right.word2 { return left.word2.bigEndian < right.word2.bigEndian }
        if left.word3 != right.word3 { return left.word3.bigEndian < right.word3.bigEndian }
        if left.word4 != right.word4 { return left.word4.bigEndian < right.word4.bigEndian }
        return left.word5.bigEndian < right.word5.bigEndian
    }
}
