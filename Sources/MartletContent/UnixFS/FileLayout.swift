/// How a file becomes a graph of blocks. The same file in the same layout has the same root everywhere.
///
/// The defaults are those of `ipfs add --cid-version=1 --raw-leaves --chunker=size-1048576` (kubo's profile
/// `test-cid-v1`): raw leaves of 1 MiB, sha2-256, balanced with up to 174 links a node.
public struct FileLayout: Hashable, Sendable {
    /// The size of every leaf but the last, in bytes.
    public let leafByteCount: Int
    /// The most links of one node.
    public let maximumLinkCount: Int

    public static let leafByteCounts = (256 << 10)...(2 << 20)

    /// The default layout.
    public init() {
        leafByteCount = 1 << 20
        maximumLinkCount = 174
    }

    /// - Throws: `invalidLayout` for leaves outside 256 KiB … 2 MiB, or for fewer than 2 or more than 8,192 links.
    public init(leafByteCount: Int, maximumLinkCount: Int = 174) throws(ContentError) {
        guard Self.leafByteCounts.contains(leafByteCount) else {
            throw ContentError(.invalidLayout, "leaves of \(leafByteCount) bytes; 256 KiB to 2 MiB are possible")
        }
        guard (2...8192).contains(maximumLinkCount) else {
            throw ContentError(.invalidLayout, "\(maximumLinkCount) links a node; 2 to 8192 are possible")
        }
        self.leafByteCount = leafByteCount
        self.maximumLinkCount = maximumLinkCount
    }

    /// Any sizes, so that tests build deep graphs of small files.
    init(unchecked leafByteCount: Int, maximumLinkCount: Int) {
        self.leafByteCount = leafByteCount
        self.maximumLinkCount = maximumLinkCount
    }

    /// The number of leaves of a file. An empty file has one, which is empty.
    public func leafCount(of fileByteCount: UInt64) -> UInt64 {
        let size = UInt64(leafByteCount)
        return max(1, fileByteCount / size + (fileByteCount % size == 0 ? 0 : 1))
    }

    /// Where leaf `index` of a file lies; nil when the file has no such leaf.
    public func leafRange(_ index: UInt64, of fileByteCount: UInt64) -> (offset: UInt64, byteCount: Int)? {
        guard index < leafCount(of: fileByteCount) else { return nil }
        let offset = index * UInt64(leafByteCount)
        return (offset, Int(min(UInt64(leafByteCount), fileByteCount - offset)))
    }
}
