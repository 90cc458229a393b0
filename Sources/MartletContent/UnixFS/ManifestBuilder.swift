public import MartletCore
public import MartletIdentity

/// Takes the inner nodes of a file's graph in breadth-first order, checks each against the hash that its parent (or the
/// root CID) gives, and makes the manifest of the leaves.
///
/// A node that occurs in several places is expected once, where it first occurs; this is the order in which
/// `/martlet/blocks/1` sends a structure.
public struct ManifestBuilder: Sendable {
    /// A place in the file where a node belongs.
    private struct Place {
        let offset: UInt64
        /// As the parent says; nil for the root.
        let byteCount: UInt64?
        let depth: Int
    }

    private struct Child {
        let cid: CID
        let digest: Digest
        let byteCount: UInt64
    }

    /// A node without what the file has no use for.
    private struct Inner {
        let byteCount: UInt64
        let children: [Child]
    }

    private enum Expected {
        case pending([Place])
        case known(Inner)
    }

    public let root: CID
    public let limits: GraphLimits
    /// Digests of the nodes that are still to come, in their order, from `next` on.
    private var queue: [Digest] = []
    private var next = 0
    // Looked up by digest only; nothing is ever listed from it.
    private var inner: [Digest: Expected] = [:]
    private var leaves: [Manifest.Leaf] = []
    private var nodes: [DAGBuilder.Node] = []
    private var placeCount = 0
    private var byteCount: UInt64?

    /// - Throws: `unsupportedCID` when the root is neither raw nor dag-pb or not sha2-256.
    public init(root: CID, limits: GraphLimits = GraphLimits()) throws(ContentError) {
        self.root = root
        self.limits = limits
        let digest = try Self.digest(of: root)
        if root.codec == .raw {
            // One leaf, whose size nobody has said yet.
            leaves = [Manifest.Leaf(digest: digest, offset: 0, byteCount: 0)]
        } else {
            queue = [digest]
            placeCount = 1
            inner[digest] = .pending([Place(offset: 0, byteCount: nil, depth: 1)])
        }
    }

    /// The hash of the node that comes next; nil when the graph is complete.
    public var expected: Digest? { next < queue.count ? queue[next] : nil }

    /// The manifest, once all nodes are here.
    public var manifest: Manifest? {
        guard expected == nil else { return nil }
        return Manifest(root: root, byteCount: byteCount, leaves: leaves, nodes: nodes)
    }

    /// Takes the next node.
    ///
    /// - Returns: false when the block is not the one expected, which is the sender's fault.
    /// - Throws: `invalidGraph` when the block is the right one and still no good, which is the maker's.
    public mutating func receive(_ block: Bytes) throws(ContentError) -> Bool {
        guard let digest = expected, block.count <= limits.nodeByteCount, SHA256.hash(block) == digest,
            case .pending(let places) = inner[digest]
        else { return false }
        let node = try parse(block)
        next += 1
        nodes.append(DAGBuilder.Node(digest: digest, block: block.compacted()))
        inner[digest] = .known(node)
        if digest == queue[0], byteCount == nil { byteCount = node.byteCount }
        for place in places { try expand(node, at: place) }
        if next == queue.count { finish() }
        return true
    }

    private mutating func finish() {
        // Graphs of one depth, which all usual ones are, are in order already.
        let isOrdered = zip(leaves, leaves.dropFirst()).allSatisfy { $0.offset <= $1.offset }
        if !isOrdered { leaves.sort { $0.offset < $1.offset } }
        inner = [:]
    }

    /// Puts the children of a node where they belong. Not recursive over the wire: known nodes expand at once, at most
    /// `limits.depth` deep and `limits.nodes` in all.
    private mutating func expand(_ node: Inner, at place: Place) throws(ContentError) {
        if let said = place.byteCount, said != node.byteCount {
            throw ContentError(.invalidGraph, "a node holds \(node.byteCount) bytes where its parent says \(said)")
        }
        var offset = place.offset
        for child in node.children {
            if child.cid.codec == .raw {
                guard leaves.count < limits.leaves else {
                    throw ContentError(.invalidGraph, "more than \(limits.leaves) leaves")
                }
                leaves.append(
                    Manifest.Leaf(digest: child.digest, offset: offset, byteCount: UInt32(child.byteCount)))
            } else {
                try put(child, offset: offset, depth: place.depth + 1)
            }
            // `parse` made sure that the sum fits.
            offset += child.byteCount
        }
    }

    private mutating func put(_ child: Child, offset: UInt64, depth: Int) throws(ContentError) {
        guard depth <= limits.depth else {
            throw ContentError(.invalidGraph, "deeper than \(limits.depth) levels")
        }
        placeCount += 1
        guard placeCount <= limits.nodes else {
            throw ContentError(.invalidGraph, "more than \(limits.nodes) nodes")
        }
        let place = Place(offset: offset, byteCount: child.byteCount, depth: depth)
        switch inner[child.digest] {
        case nil:
            queue.append(child.digest)
            inner[child.digest] = .pending([place])
        case .pending(var places):
            inner[child.digest] = nil
            places.append(place)
            inner[child.digest] = .pending(places)
        case .known(let node):
            try expand(node, at: place)
        }
    }

    // MARK: One node

    private func parse(_ block: Bytes) throws(ContentError) -> Inner {
        let node: DAGNode
        let data: UnixFSData
        do throws(DecodingError) {
            node = try DAGNode(bytes: block.span)
            guard let encoded = node.data else { throw .invalid(field: "node", reason: "without UnixFS data") }
            data = try UnixFSData(bytes: encoded.span.bytes)
        } catch {
            throw ContentError(.invalidGraph, "a node cannot be decoded: \(error)")
        }
        guard data.kind == .file else {
            throw ContentError(.invalidGraph, "a \(data.kind), not a file")
        }
        guard data.data?.isEmpty ?? true else {
            throw ContentError(.invalidGraph, "a node with content of its own, which only raw leaves may have here")
        }
        guard node.links.count == data.linkByteCounts.count else {
            throw ContentError(
                .invalidGraph, "a node with \(node.links.count) links and \(data.linkByteCounts.count) sizes")
        }
        guard !node.links.isEmpty, node.links.count <= limits.linksPerNode else {
            throw ContentError(
                .invalidGraph, "a node with \(node.links.count) links, 1 to \(limits.linksPerNode) may be")
        }
        var sum: UInt64 = 0
        var children: [Child] = []
        children.reserveCapacity(node.links.count)
        for (link, size) in zip(node.links, data.linkByteCounts) {
            let isLeaf = link.cid.codec == .raw
            guard size > 0, !isLeaf || size <= UInt64(limits.leafByteCount) else {
                throw ContentError(.invalidGraph, "a leaf of \(size) bytes, 1 to \(limits.leafByteCount) may be")
            }
            let (total, overflow) = sum.addingReportingOverflow(size)
            // Offsets in files are signed, on every system.
            guard !overflow, total <= UInt64(Int64.max) else {
                throw ContentError(.invalidGraph, "more content than a file can hold")
            }
            sum = total
            children.append(Child(cid: link.cid, digest: try Self.digest(of: link.cid), byteCount: size))
        }
        guard data.byteCount == sum else {
            throw ContentError(.invalidGraph, "a node that says \(data.byteCount ?? 0) bytes with links of \(sum)")
        }
        return Inner(byteCount: sum, children: children)
    }

    private static func digest(of cid: CID) throws(ContentError) -> Digest {
        guard cid.codec == .raw || cid.codec == .dagPB else {
            throw ContentError(.unsupportedCID, "codec \(cid.codec.rawValue) of \(cid) is not one of files")
        }
        // Identity CIDs carry their content in the name; unbounded elsewhere, they are simply not used here.
        guard let digest = cid.multihash.sha256 else {
            throw ContentError(
                .unsupportedCID, "hash function \(cid.multihash.code.rawValue) of \(cid) is not sha2-256")
        }
        return digest
    }
}
