/// The name of content: how to read it (codec) and its hash.
///
///     let name = try CID("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
///     name.codec == .raw
///
/// Version 0 is the older form: always dag-pb and sha2-256, written in base58 without a prefix.
/// The value takes 56 bytes and no heap for digests of up to 40 bytes. Specification: multiformats/cid.
@frozen
public struct CID: Hashable, Sendable {
    /// How the content is encoded: a number of the multicodec table.
    @frozen
    public struct Codec: RawRepresentable, Hashable, Sendable {
        public let rawValue: UInt32
        @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Bytes as they are.
        @inlinable public static var raw: Codec { Codec(rawValue: 0x55) }
        /// Protobuf nodes with links, as UnixFS uses them.
        @inlinable public static var dagPB: Codec { Codec(rawValue: 0x70) }
        @inlinable public static var dagCBOR: Codec { Codec(rawValue: 0x71) }
        /// A peer's public key.
        @inlinable public static var libp2pKey: Codec { Codec(rawValue: 0x72) }
        @inlinable public static var dagJSON: Codec { Codec(rawValue: 0x0129) }
    }

    public enum Version: UInt8, Sendable {
        case v0 = 0
        case v1 = 1
    }

    public let multihash: Multihash
    /// The codec's number, or `version0` for version 0, which saves a word.
    @usableFromInline let codecOrVersion0: UInt32
    @usableFromInline static let version0 = UInt32.max

    /// A CID of version 1.
    public init(codec: Codec, multihash: Multihash) {
        precondition(codec.rawValue != Self.version0, "codec \(codec.rawValue) does not exist")
        self.multihash = multihash
        codecOrVersion0 = codec.rawValue
    }

    /// A CID of version 0.
    ///
    /// - Throws: `invalid` for any hash other than a whole sha2-256.
    public init(version0 multihash: Multihash) throws(DecodingError) {
        guard multihash.code == .sha2_256, multihash.digestByteCount == 32 else {
            throw .invalid(field: "CID", reason: "version 0 takes a sha2-256 of 32 bytes only")
        }
        self.multihash = multihash
        codecOrVersion0 = Self.version0
    }

    /// The CID that `bytes` consist of, nothing before or after it.
    public init(bytes: some Collection<UInt8>) throws(DecodingError) {
        try self.init(bytes: Array(bytes).span.bytes)
    }

    /// The CID that `bytes` consist of, nothing before or after it.
    public init(bytes: RawSpan) throws(DecodingError) {
        var reader = ByteReader(bytes)
        try self.init(reading: &reader)
        guard reader.isAtEnd else { throw .trailingBytes(reader.remaining) }
    }

    /// The next CID of a message, in either version. On an error the reader is left where it was.
    public init(reading reader: inout ByteReader) throws(DecodingError) {
        let start = reader.position
        do throws(DecodingError) {
            // Version 0 has no version number: it begins with the code of sha2-256, which is no version.
            let version = try reader.readVarint()
            if version == UInt64(Multihash.Code.sha2_256.rawValue) {
                reader.rewind(to: start)
                try self.init(version0: Multihash(reading: &reader))
                return
            }
            guard version == 1 else { throw .invalid(field: "CID", reason: "version \(version) is not known") }
            let codec = try reader.readVarint()
            guard codec < UInt64(Self.version0) else {
                throw .invalid(field: "CID", reason: "\(codec) is no codec")
            }
            self.init(codec: Codec(rawValue: UInt32(codec)), multihash: try Multihash(reading: &reader))
        } catch {
            reader.rewind(to: start)
            throw error
        }
    }

    public var version: Version { codecOrVersion0 == Self.version0 ? .v0 : .v1 }

    public var codec: Codec { version == .v0 ? .dagPB : Codec(rawValue: codecOrVersion0) }

    /// The same content named in version 1.
    public var version1: CID { CID(codec: codec, multihash: multihash) }

    /// The same content named in version 0; nil when version 0 cannot name it.
    public var version0: CID? { codec == .dagPB ? try? CID(version0: multihash) : nil }

    /// The size of the binary form.
    public var byteCount: Int {
        version == .v0 ? multihash.byteCount : 1 + Varint.byteCount(UInt64(codec.rawValue)) + multihash.byteCount
    }

    /// The binary form.
    public var bytes: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(byteCount)
        append(to: &output)
        return output
    }

    /// Adds the binary form to `output`.
    public func append(to output: inout [UInt8]) {
        if version == .v1 {
            output.append(1)
            Varint.append(UInt64(codec.rawValue), to: &output)
        }
        multihash.append(to: &output)
    }
}

extension CID: Comparable {
    /// By the bytes of the binary form, so that an order never depends on a hash seed.
    public static func < (left: CID, right: CID) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}
