public import MartletCore
public import MartletStorage

/// A file that is shared where it lies.
public struct SharedFile: Hashable, Sendable {
    public enum State: Hashable, Sendable {
        /// As it was when it was shared, as far as anybody has looked.
        case current
        /// Found changed, replaced or gone; it is not served until it is shared again. Says what was found.
        case stale(String)
    }

    /// Stays the same until the path is shared again.
    public let id: UInt64
    /// Absolute, without symbolic links.
    public let path: String
    public let root: CID
    public let layout: FileLayout
    public let identity: FileIdentity
    public let sharedAt: WallTime
    public internal(set) var state: State

    public var byteCount: UInt64 { identity.byteCount }
}

extension SharedFile: TableCodable {
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        var output: [UInt8] = [1]
        func append(_ value: UInt64) { withUnsafeBytes(of: value.bigEndian) { output.append(contentsOf: $0) } }
        func append(_ bytes: [UInt8]) {
            Varint.append(UInt64(bytes.count), to: &output)
            output.append(contentsOf: bytes)
        }
        append(id)
        append(UInt64(layout.leafByteCount))
        append(UInt64(layout.maximumLinkCount))
        append(identity.byteCount)
        append(UInt64(bitPattern: identity.modified))
        append(UInt64(bitPattern: identity.changed))
        append(identity.inode)
        append(identity.device)
        append(UInt64(bitPattern: sharedAt.nanosecondsSince1970))
        append(Array(path.utf8))
        append(root.bytes)
        switch state {
        case .current: append([])
        case .stale(let reason): append(Array(reason.utf8))
        }
        return try output.withEncodedBytes(body)
    }

    public init(decoding span: RawSpan) throws(DecodingError) {
        var reader = ByteReader(span)
        guard try reader.readByte() == 1 else { throw .invalid(field: "shared file", reason: "unknown version") }
        id = try reader.readBigEndian()
        let leaf: UInt64 = try reader.readBigEndian()
        let links: UInt64 = try reader.readBigEndian()
        guard let leafByteCount = Int(exactly: leaf), let maximumLinkCount = Int(exactly: links), leaf > 0 else {
            throw .invalid(field: "shared file", reason: "impossible layout")
        }
        layout = FileLayout(unchecked: leafByteCount, maximumLinkCount: maximumLinkCount)
        let size: UInt64 = try reader.readBigEndian()
        let modified: UInt64 = try reader.readBigEndian()
        let changed: UInt64 = try reader.readBigEndian()
        let inode: UInt64 = try reader.readBigEndian()
        let device: UInt64 = try reader.readBigEndian()
        identity = FileIdentity(
            byteCount: size, modified: Int64(bitPattern: modified), changed: Int64(bitPattern: changed), inode: inode,
            device: device)
        let time: UInt64 = try reader.readBigEndian()
        sharedAt = WallTime(nanosecondsSince1970: Int64(bitPattern: time))
        path = String(decoding: try reader.readLengthPrefixed(limit: 1 << 16, field: "path"), as: UTF8.self)
        root = try CID(bytes: reader.readLengthPrefixed(limit: 256, field: "root"))
        let reason = try reader.readLengthPrefixed(limit: 1 << 12, field: "reason")
        state = reason.isEmpty ? .current : .stale(String(decoding: reason, as: UTF8.self))
    }
}

/// Where a leaf lies in a shared file.
struct LeafPlace: TableCodable, Hashable, Sendable {
    var offset: UInt64
    var byteCount: UInt32

    init(offset: UInt64, byteCount: UInt32) {
        self.offset = offset
        self.byteCount = byteCount
    }

    func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        var output: [UInt8] = []
        Varint.append(offset, to: &output)
        Varint.append(UInt64(byteCount), to: &output)
        return try output.withEncodedBytes(body)
    }

    init(decoding span: RawSpan) throws(DecodingError) {
        var reader = ByteReader(span)
        offset = try reader.readVarint()
        let count = try reader.readVarint()
        guard let byteCount = UInt32(exactly: count), reader.isAtEnd else {
            throw .invalid(field: "leaf place", reason: "impossible size")
        }
        self.byteCount = byteCount
    }
}

/// A digest followed by the number of a file, so that the same block in several files has an entry for each, and all are
/// found by the digest.
struct DigestKey: TableCodable, Hashable, Sendable {
    let bytes: [UInt8]

    init(_ digest: [UInt8], file id: UInt64) {
        bytes = digest + withUnsafeBytes(of: id.bigEndian) { Array($0) }
    }

    var digest: [UInt8] { Array(bytes.dropLast(8)) }
    var fileID: UInt64 { bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) } }

    func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try bytes.withEncodedBytes(body)
    }

    init(decoding span: RawSpan) throws(DecodingError) {
        guard span.byteCount > 8 else { throw .truncated(needed: 9, remaining: span.byteCount) }
        bytes = span.withUnsafeBytes { Array($0) }
    }
}
