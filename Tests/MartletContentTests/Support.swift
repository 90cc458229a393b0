import CLibsodium
import Glibc
import MartletCore
import MartletIdentity

@testable import MartletContent

/// The bytes that kubo's tests call deterministic: the ChaCha20 key stream (RFC 8439, nonce zero, from block 0) of the
/// SHA-256 of `seed`. Source: github.com/ipfs/kubo test/cli/testutils/random_deterministic.go.
struct KeyStream {
    private let key: [UInt8]
    private var block: UInt32 = 0

    init(seed: String) { key = SHA256.hash(Array(seed.utf8)).bytes }

    /// The next `count` bytes; a multiple of 64 unless it is the last piece.
    mutating func next(_ count: Int) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: count)
        let zeros = output
        let nonce = [UInt8](repeating: 0, count: 12)
        crypto_stream_chacha20_ietf_xor_ic(&output, zeros, UInt64(count), nonce, block, key)
        block += UInt32(count / 64)
        return output
    }
}

/// A file's graph in memory.
struct TestFile {
    let content: [UInt8]
    let layout: FileLayout
    let root: CID
    let nodes: [DAGBuilder.Node]
    let leaves: [Digest]

    init(content: [UInt8], layout: FileLayout) {
        var builder = DAGBuilder(layout: layout)
        var nodes: [DAGBuilder.Node] = []
        var leaves: [Digest] = []
        for index in 0..<Int(layout.leafCount(of: UInt64(content.count))) {
            let start = index * layout.leafByteCount
            let leaf = content[start..<min(start + layout.leafByteCount, content.count)]
            leaves.append(SHA256.hash(Array(leaf)))
            builder.append(leaf: leaves[index], byteCount: leaf.count) { nodes.append($0) }
        }
        root = builder.finish { nodes.append($0) }
        self.nodes = nodes
        self.leaves = leaves
        self.content = content
        self.layout = layout
    }

    init(byteCount: Int, leaf: Int, links: Int = 4, seed: UInt64 = 1) {
        var random = RandomSource(seed: seed)
        self.init(
            content: random.bytes(byteCount), layout: FileLayout(unchecked: leaf, maximumLinkCount: links))
    }

    func leaf(_ index: Int) -> [UInt8] {
        let start = index * layout.leafByteCount
        return Array(content[start..<min(start + layout.leafByteCount, content.count)])
    }

    /// The inner nodes in the order in which a structure is sent.
    var structure: [DAGBuilder.Node] {
        var walk = StructureWalk(root: root)
        var found: [DAGBuilder.Node] = []
        while let digest = walk.next {
            guard let node = nodes.first(where: { $0.digest == digest }) else { return found }
            found.append(node)
            walk.visited(node.block)
        }
        return found
    }

    var manifest: Manifest {
        get throws {
            var builder = try ManifestBuilder(root: root)
            for node in structure { _ = try builder.receive(node.block) }
            return builder.manifest!
        }
    }
}
