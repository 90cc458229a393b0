public import MartletCore

/// What a dag-pb node of UnixFS says about the file or directory it belongs to.
///
/// Read as strictly as `DAGNode`. Specification: ipfs/specs src/unixfs.md.
public struct UnixFSData: Hashable, Sendable {
    public enum Kind: UInt64, Sendable {
        case raw = 0
        case directory = 1
        case file = 2
        case metadata = 3
        case symlink = 4
        case shardedDirectory = 5
    }

    public var kind: Kind
    /// Content held by the node itself.
    public var data: [UInt8]?
    /// The size of all the content below this node.
    public var byteCount: UInt64?
    /// The size of the content below each link, in the order of the links.
    public var linkByteCounts: [UInt64] = []
    /// For sharded directories.
    public var hashType: UInt64?
    public var fanout: UInt64?
    /// Unix permissions, when they were kept.
    public var mode: UInt64?
    /// The encoded modification time, when it was kept.
    public var modificationTime: [UInt8]?

    public init(kind: Kind, byteCount: UInt64? = nil, linkByteCounts: [UInt64] = []) {
        self.kind = kind
        self.byteCount = byteCount
        self.linkByteCounts = linkByteCounts
    }

    public var bytes: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(16 + linkByteCounts.count * 4 + (data?.count ?? 0))
        WireField.appendVarint(1, kind.rawValue, to: &output)
        if let data { WireField.appendBytes(2, data, to: &output) }
        if let byteCount { WireField.appendVarint(3, byteCount, to: &output) }
        for size in linkByteCounts { WireField.appendVarint(4, size, to: &output) }
        if let hashType { WireField.appendVarint(5, hashType, to: &output) }
        if let fanout { WireField.appendVarint(6, fanout, to: &output) }
        if let mode { WireField.appendVarint(7, mode, to: &output) }
        if let modificationTime { WireField.appendBytes(8, modificationTime, to: &output) }
        return output
    }

    public init(bytes: RawSpan) throws(DecodingError) {
        var reader = ByteReader(bytes)
        var previous: UInt64 = 0
        var kind: Kind?
        while !reader.isAtEnd {
            let (number, wireType) = try reader.readFieldTag()
            // Each field once and in order; only the sizes of the links (4) repeat.
            guard number > previous || (number == 4 && previous == 4) else {
                throw .invalid(field: "UnixFS data", reason: "field \(number) is repeated or out of place")
            }
            previous = number
            switch (number, wireType) {
            case (1, 0):
                let value = try reader.readVarint()
                guard let known = Kind(rawValue: value) else {
                    throw .invalid(field: "UnixFS type", reason: "\(value) is unknown")
                }
                kind = known
            case (2, 2): data = try reader.readLengthPrefixed(limit: reader.remaining, field: "UnixFS content")
            case (3, 0): byteCount = try reader.readVarint()
            case (4, 0):
                guard linkByteCounts.count < DAGNode.maximumLinkCount else {
                    throw .tooLong(
                        field: "UnixFS block sizes", length: UInt64(linkByteCounts.count) + 1,
                        limit: DAGNode.maximumLinkCount)
                }
                linkByteCounts.append(try reader.readVarint())
            case (5, 0): hashType = try reader.readVarint()
            case (6, 0): fanout = try reader.readVarint()
            case (7, 0): mode = try reader.readVarint()
            case (8, 2): modificationTime = try reader.readLengthPrefixed(limit: 64, field: "UnixFS mtime")
            default: throw .invalid(field: "UnixFS data", reason: "field \(number) is unknown")
            }
        }
        guard let kind else { throw .invalid(field: "UnixFS data", reason: "without a type") }
        self.kind = kind
    }
}
