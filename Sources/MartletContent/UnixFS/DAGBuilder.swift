public import MartletCore
public import MartletIdentity

/// Builds the balanced graph of a file from the hashes of its leaves, in order, and hands out each inner node when it is
/// complete. Holds at most one unfinished node for every level: constant memory for files of any size.
///
///     var builder = DAGBuilder(layout: layout)
///     for leaf in leaves { store(builder.append(leaf: leaf.digest, byteCount: leaf.count)) }
///     let root = builder.finish(emitting: store)
public struct DAGBuilder: Sendable {
    /// An inner node.
    public struct Node: Hashable, Sendable {
        public let digest: Digest
        public let block: Bytes
        public var cid: CID { CID(codec: .dagPB, multihash: Multihash(digest)) }
    }

    /// A block that waits for its parent.
    private struct Entry {
        let cid: CID
        let contentByteCount: UInt64
        let graphByteCount: UInt64
    }

    public let layout: FileLayout
    public private(set) var byteCount: UInt64 = 0
    public private(set) var leafCount: UInt64 = 0
    // levels[0] are leaves, levels[n] nodes above n − 1.
    private var levels: [[Entry]] = [[]]

    public init(layout: FileLayout) {
        self.layout = layout
    }

    /// Adds the next leaf and calls `emit` with the nodes that it completes.
    public mutating func append(leaf digest: Digest, byteCount count: Int, emitting emit: (Node) throws -> Void)
        rethrows
    {
        byteCount += UInt64(count)
        leafCount += 1
        let entry = Entry(
            cid: CID(codec: .raw, multihash: Multihash(digest)), contentByteCount: UInt64(count),
            graphByteCount: UInt64(count))
        try add(entry, at: 0, emit)
    }

    /// Completes the graph and returns its root: the leaf itself when there is only one.
    public mutating func finish(emitting emit: (Node) throws -> Void) rethrows -> CID {
        if leafCount == 0 { try append(leaf: SHA256.hash([UInt8]()), byteCount: 0, emitting: emit) }
        var level = 0
        while true {
            let isTop = level == levels.count - 1
            if isTop, levels[level].count == 1 { return levels[level][0].cid }
            if !levels[level].isEmpty { try wrap(level, emit) }
            level += 1
        }
    }

    private mutating func add(_ entry: Entry, at level: Int, _ emit: (Node) throws -> Void) rethrows {
        if level == levels.count { levels.append([]) }
        levels[level].append(entry)
        if levels[level].count == layout.maximumLinkCount { try wrap(level, emit) }
    }

    /// Makes a node of everything that waits at `level`.
    private mutating func wrap(_ level: Int, _ emit: (Node) throws -> Void) rethrows {
        let entries = levels[level]
        levels[level].removeAll(keepingCapacity: true)
        let content = entries.reduce(UInt64(0)) { $0 + $1.contentByteCount }
        let data = UnixFSData(
            kind: .file, byteCount: content, linkByteCounts: entries.map(\.contentByteCount))
        let links = entries.map { DAGNode.Link(cid: $0.cid, graphByteCount: $0.graphByteCount) }
        let block = DAGNode(links: links, data: data.bytes).bytes
        let node = Node(digest: SHA256.hash(block), block: Bytes(block))
        try emit(node)
        let graph = entries.reduce(UInt64(block.count)) { $0 + $1.graphByteCount }
        try add(Entry(cid: node.cid, contentByteCount: content, graphByteCount: graph), at: level + 1, emit)
    }
}

extension Multihash {
    /// The multihash of a SHA-256 digest.
    public init(_ digest: Digest) {
        do {
            self = try digest.withUnsafeBytes { bytes throws(DecodingError) in
                try Multihash(code: .sha2_256, digest: bytes.bytes)
            }
        } catch {
            preconditionFailure("32 bytes are a sha2-256 digest: \(error)")
        }
    }

    /// The digest, when this is a whole sha2-256.
    public var sha256: Digest? {
        guard code == .sha2_256, digestByteCount == Digest.byteCount else { return nil }
        return withDigest { try? Digest(bytes: $0.bytes) }
    }
}
