public import MartletCore
public import MartletIdentity

/// All leaves of a file, in order: what a fetch needs to know before it asks for content. Made by `ManifestBuilder` from
/// nodes whose hashes were checked.
public struct Manifest: Sendable {
    /// A leaf of the file.
    public struct Leaf: Hashable, Sendable {
        public let digest: Digest
        /// Where the leaf begins in the file.
        public let offset: UInt64
        /// At most the limit for leaves, so it fits.
        public let byteCount: UInt32

        public init(digest: Digest, offset: UInt64, byteCount: UInt32) {
            self.digest = digest
            self.offset = offset
            self.byteCount = byteCount
        }
    }

    public let root: CID
    /// The size of the file. For a file of one leaf it is only known once the leaf is here, and is nil before.
    public let byteCount: UInt64?
    public let leaves: [Leaf]
    /// The inner nodes, each once, in the order in which they were received.
    public let nodes: [DAGBuilder.Node]

    public init(root: CID, byteCount: UInt64?, leaves: [Leaf], nodes: [DAGBuilder.Node]) {
        self.root = root
        self.byteCount = byteCount
        self.leaves = leaves
        self.nodes = nodes
    }
}

extension Manifest: CustomStringConvertible {
    public var description: String { "\(root): \(leaves.count) leaves, \(nodes.count) nodes" }
}

/// What the graph of a file may cost. A graph comes from whoever made the CID, who need not mean well.
public struct GraphLimits: Hashable, Sendable {
    /// The largest inner node, in bytes.
    public var nodeByteCount = 1 << 20
    /// The largest leaf, in bytes.
    public var leafByteCount = 2 << 20
    public var depth = 12
    public var linksPerNode = 8192
    /// Inner nodes, counted wherever they occur: the same node in two places counts twice.
    public var nodes = 200_000
    /// 4 TiB in leaves of 1 MiB. The manifest takes 48 bytes a leaf.
    public var leaves = 4 << 20

    public init() {}
}
