/// A digest that says which hash function made it. Nothing is hashed here.
///
/// Digests of up to 40 bytes, which is all that the mesh makes by itself, live inside the value: no heap, and 48 bytes
/// in a table. Specification: multiformats/multihash.
@frozen
public struct Multihash: Hashable, Sendable {
    /// The number of a hash function in the multicodec table, under the table's name for it.
    // swift-format-ignore: AlwaysUseLowerCamelCase
    @frozen
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: UInt32
        @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Not a hash: the bytes themselves.
        @inlinable public static var identity: Code { Code(rawValue: 0x00) }
        @inlinable public static var sha1: Code { Code(rawValue: 0x11) }
        @inlinable public static var sha2_256: Code { Code(rawValue: 0x12) }
        @inlinable public static var sha2_512: Code { Code(rawValue: 0x13) }
        @inlinable public static var sha3_512: Code { Code(rawValue: 0x14) }
        @inlinable public static var sha3_256: Code { Code(rawValue: 0x16) }
        @inlinable public static var blake3: Code { Code(rawValue: 0x1E) }
        @inlinable public static var blake2b256: Code { Code(rawValue: 0xB220) }
        @inlinable public static var blake2s256: Code { Code(rawValue: 0xB260) }

        /// The most bytes that a digest of this function may have; a digest may be cut shorter.
        public var maximumDigestByteCount: Int {
            switch self {
            case .identity: Multihash.maximumIdentityByteCount
            case .sha1: 20
            case .sha2_256, .sha3_256, .blake2b256, .blake2s256: 32
            default: Multihash.maximumDigestByteCount
            }
        }
    }

    /// The longest digest of a hash function that is accepted.
    public static let maximumDigestByteCount = 64
    /// The longest content of an identity multihash that is accepted: what other implementations accept, too.
    public static let maximumIdentityByteCount = 128

    @usableFromInline static let inlineByteCount = 40

    @usableFromInline
    @frozen
    enum Storage: Sendable {
        /// Bytes beyond the count are zero.
        case small(InlineArray<5, UInt64>, count: UInt8)
        /// More than 40 bytes.
        case large([UInt8])
    }

    @usableFromInline let storage: Storage
    /// The hash function.
    public let code: Code

    /// A multihash of a digest made elsewhere.
    ///
    /// - Throws: `tooLong` when the digest is longer than the function's digests are.
    public init(code: Code, digest: some Collection<UInt8>) throws(DecodingError) {
        try self.init(code: code, digest: Array(digest).span.bytes)
    }

    /// A multihash of a digest made elsewhere.
    ///
    /// - Throws: `tooLong` when the digest is longer than the function's digests are.
    public init(code: Code, digest: RawSpan) throws(DecodingError) {
        let limit = code.maximumDigestByteCount
        guard digest.byteCount <= limit else {
            throw .tooLong(field: "multihash digest", length: UInt64(digest.byteCount), limit: limit)
        }
        self.code = code
        if digest.byteCount <= Self.inlineByteCount {
            var words = InlineArray<5, UInt64>(repeating: 0)
            withUnsafeMutableBytes(of: &words) { room in digest.withUnsafeBytes { room.copyMemory(from: $0) } }
            storage = .small(words, count: UInt8(digest.byteCount))
        } else {
            storage = .large(digest.withUnsafeBytes { Array($0) })
        }
    }

    /// The multihash that `bytes` consist of, nothing before or after it.
    public init(bytes: some Collection<UInt8>) throws(DecodingError) {
        try self.init(bytes: Array(bytes).span.bytes)
    }

    /// The multihash that `bytes` consist of, nothing before or after it.
    public init(bytes: RawSpan) throws(DecodingError) {
        var reader = ByteReader(bytes)
        try self.init(reading: &reader)
        guard reader.isAtEnd else { throw .trailingBytes(reader.remaining) }
    }

    /// The next multihash of a message: code, length, digest. On an error the reader is left where it was.
    public init(reading reader: inout ByteReader) throws(DecodingError) {
        let start = reader.position
        do throws(DecodingError) {
            let number = try reader.readVarint()
            guard let raw = UInt32(exactly: number) else {
                throw .invalid(field: "multihash", reason: "\(number) is no hash function")
            }
            let code = Code(rawValue: raw)
            let digest = try reader.readLengthPrefixedSpan(
                limit: code.maximumDigestByteCount, field: "multihash digest")
            try self.init(code: code, digest: digest)
        } catch {
            reader.rewind(to: start)
            throw error
        }
    }

    public var digestByteCount: Int {
        switch storage {
        case .small(_, let count): Int(count)
        case .large(let bytes): bytes.count
        }
    }

    /// The digest without code and length.
    public var digest: [UInt8] { withDigest { Array($0) } }

    /// Gives `body` the digest without copying it. The pointer is valid only inside `body`.
    @inlinable
    public func withDigest<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        switch storage {
        case .small(let words, let count):
            var copy = words
            return try withUnsafeMutableBytes(of: &copy) { buffer throws(E) -> R in
                try body(UnsafeRawBufferPointer(rebasing: buffer[..<Int(count)]))
            }
        case .large(let bytes):
            return try bytes.span.bytes.withUnsafeBytes(body)
        }
    }

    /// The size of the binary form.
    public var byteCount: Int {
        let count = digestByteCount
        return Varint.byteCount(UInt64(code.rawValue)) + Varint.byteCount(UInt64(count)) + count
    }

    /// The binary form: code, length, digest.
    public var bytes: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(byteCount)
        append(to: &output)
        return output
    }

    /// Adds the binary form to `output`.
    public func append(to output: inout [UInt8]) {
        Varint.append(UInt64(code.rawValue), to: &output)
        Varint.append(UInt64(digestByteCount), to: &output)
        withDigest { output.append(contentsOf: $0) }
    }

    @inlinable
    public static func == (left: Multihash, right: Multihash) -> Bool {
        guard left.code == right.code else { return false }
        switch (left.storage, right.storage) {
        case (.small(let l, let leftCount), .small(let r, let rightCount)):
            return leftCount == rightCount && l[0] == r[0] && l[1] == r[1] && l[2] == r[2] && l[3] == r[3]
                && l[4] == r[4]
        case (.large(let l), .large(let r)): return l == r
        case (.small, .large), (.large, .small): return false
        }
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(code.rawValue)
        switch storage {
        case .small(let words, let count):
            hasher.combine(count)
            for index in 0..<(Int(count) + 7) / 8 { hasher.combine(words[index]) }
        case .large(let bytes):
            hasher.combine(bytes)
        }
    }
}

extension Multihash: CustomStringConvertible {
    /// The binary form in base58.
    public var description: String { Base58.encode(bytes) }
}
