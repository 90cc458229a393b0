import MartletCore
import MartletIdentity

/// The order in which the inner nodes of a graph are sent: breadth first from the root, each once, where it first occurs.
struct StructureWalk: Sendable {
    private var queue: [Digest] = []
    private var index = 0
    private var seen: Set<Digest> = []
    private let limit: Int

    init(root: CID, limit: Int = GraphLimits().nodes) {
        self.limit = limit
        if root.codec == .dagPB, let digest = root.multihash.sha256 { enqueue(digest) }
    }

    /// The node to send next; nil when all were sent.
    var next: Digest? { index < queue.count ? queue[index] : nil }

    /// The node that `next` named has been read; its children follow in time.
    mutating func visited(_ block: Bytes) {
        index += 1
        guard let node = try? DAGNode(bytes: block.span) else { return }
        for link in node.links where link.cid.codec == .dagPB {
            if let digest = link.cid.multihash.sha256 { enqueue(digest) }
        }
    }

    private mutating func enqueue(_ digest: Digest) {
        guard queue.count < limit, seen.insert(digest).inserted else { return }
        queue.append(digest)
    }
}
