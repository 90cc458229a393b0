public import MartletCore

/// A node of a dag-pb graph: links to other blocks, in order, and data.
///
/// The codec is strict: what decodes encodes to the same bytes, so a node has one hash only.
/// Specification: ipld/specs block-layer/codecs/dag-pb.md.
public struct DAGNode: Hashable, Sendable {
    /// A reference to another block.
    public struct Link: Hashable, Sendable {
        public var cid: CID
        /// Empty in files. Some writers leave it out, which is another encoding.
        public var name: [UInt8]?
        /// The size of the whole graph below, blocks included; a hint that nothing may rely on.
        public var graphByteCount: UInt64?

        public init(cid: CID, name: [UInt8]? = [], graphByteCount: UInt64?) {
            self.cid = cid
            self.name = name
            self.graphByteCount = graphByteCount
        }
    }

    public var links: [Link]
    public var data: [UInt8]?

    public init(links: [Link], data: [UInt8]?) {
        self.links = links
        self.data = data
    }

    /// The most links that a node may have: a block of 2 MiB cannot hold many more.
    public static let maximumLinkCount = 50_000
    static let maximumNameByteCount = 4096
    static let maximumCIDByteCount = 256

    /// The one encoding of this node.
    public var bytes: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(links.count * 56 + (data?.count ?? 0) + 8)
        for link in links {
            var encoded: [UInt8] = []
            encoded.reserveCapacity(56)
            WireField.appendBytes(1, link.cid.bytes, to: &encoded)
            if let name = link.name { WireField.appendBytes(2, name, to: &encoded) }
            if let size = link.graphByteCount { WireField.appendVarint(3, size, to: &encoded) }
            WireField.appendBytes(2, encoded, to: &output)
        }
        if let data { WireField.appendBytes(1, data, to: &output) }
        return output
    }

    /// Decodes a node. The caller has bounded the size of the block.
    public init(bytes: RawSpan) throws(DecodingError) {
        links = []
        data = nil
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            let (number, wireType) = try reader.readFieldTag()
            // Links come first, then at most one Data.
            guard wireType == 2, data == nil, number == 1 || number == 2 else {
                throw .invalid(field: "dag-pb node", reason: "field \(number) is unknown or out of place")
            }
            let content = try reader.readLengthPrefixedSpan(limit: reader.remaining, field: "dag-pb field")
            if number == 2 {
                guard links.count < Self.maximumLinkCount else {
                    throw .tooLong(
                        field: "dag-pb links", length: UInt64(links.count) + 1, limit: Self.maximumLinkCount)
                }
                links.append(try Link(bytes: content))
            } else {
                data = content.withUnsafeBytes { Array($0) }
            }
        }
    }
}

extension DAGNode.Link {
    init(bytes: RawSpan) throws(DecodingError) {
        var reader = ByteReader(bytes)
        var previous: UInt64 = 0
        var cid: CID?
        name = nil
        graphByteCount = nil
        while !reader.isAtEnd {
            let (number, wireType) = try reader.readFieldTag()
            guard number > previous else {
                throw .invalid(field: "dag-pb link", reason: "field \(number) is repeated or out of place")
            }
            previous = number
            switch (number, wireType) {
            case (1, 2):
                let content = try reader.readLengthPrefixedSpan(
                    limit: DAGNode.maximumCIDByteCount, field: "dag-pb link hash")
                cid = try CID(bytes: content)
            case (2, 2):
                name = try reader.readLengthPrefixed(limit: DAGNode.maximumNameByteCount, field: "dag-pb link name")
            case (3, 0):
                graphByteCount = try reader.readVarint()
            default:
                throw .invalid(field: "dag-pb link", reason: "field \(number) is unknown")
            }
        }
        guard let cid else { throw .invalid(field: "dag-pb link", reason: "without a hash") }
        self.cid = cid
    }
}
