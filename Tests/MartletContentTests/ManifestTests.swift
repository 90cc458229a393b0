import MartletCore
import MartletIdentity
import Testing

@testable import MartletContent

@Suite struct ManifestTests {
    @Test(arguments: [1, 9, 10, 11, 40, 41, 160, 161, 999, 1000])
    func leavesComeInTheOrderOfTheFile(byteCount: Int) throws {
        let file = TestFile(byteCount: byteCount, leaf: 10, links: 4)
        let manifest = try file.manifest
        #expect(manifest.leaves.map(\.digest) == file.leaves)
        guard byteCount > 10 else { return }
        #expect(manifest.byteCount == UInt64(byteCount))
        var offset: UInt64 = 0
        for leaf in manifest.leaves {
            #expect(leaf.offset == offset)
            offset += UInt64(leaf.byteCount)
        }
        #expect(offset == UInt64(byteCount))
    }

    @Test func equalPartsAreSentOnce() throws {
        // 64 equal leaves below 16 equal nodes below 4 equal nodes.
        let file = TestFile(
            content: [UInt8](repeating: 0, count: 640), layout: FileLayout(unchecked: 10, maximumLinkCount: 4))
        #expect(file.structure.count == 3)
        let manifest = try file.manifest
        #expect(manifest.leaves.count == 64)
        #expect(manifest.leaves.map(\.offset) == (0..<64).map { UInt64($0) * 10 })
    }

    @Test func aNodeThatIsNotTheExpectedOneIsTheSendersFault() throws {
        let file = TestFile(byteCount: 1000, leaf: 10, links: 4)
        var builder = try ManifestBuilder(root: file.root)
        let structure = file.structure
        #expect(try builder.receive(structure[1].block) == false)
        #expect(try builder.receive(Bytes(structure[0].block.array + [0])) == false)
        #expect(try builder.receive([]) == false)
        #expect(try builder.receive(structure[0].block))
        #expect(builder.manifest == nil)
    }

    @Test func rootsThatAreNoFilesAreRefused() throws {
        let digest = SHA256.hash([UInt8]())
        let cbor = CID(codec: .dagCBOR, multihash: Multihash(digest))
        let identity = CID(codec: .raw, multihash: try Multihash(code: .identity, digest: [1, 2, 3]))
        let short = CID(codec: .dagPB, multihash: try Multihash(code: .sha2_256, digest: [1, 2, 3]))
        let sha512 = CID(codec: .raw, multihash: try Multihash(code: .sha2_512, digest: digest.bytes + digest.bytes))
        for cid in [cbor, identity, short, sha512] {
            let error = #expect(throws: ContentError.self) { try ManifestBuilder(root: cid) }
            #expect(error?.code == .unsupportedCID)
        }
    }

    // MARK: Graphs made to hurt

    let leaf = CID(codec: .raw, multihash: Multihash(SHA256.hash([1, 2, 3])))

    func name(_ block: [UInt8]) -> CID { CID(codec: .dagPB, multihash: Multihash(SHA256.hash(block))) }

    func node(_ links: [(CID, UInt64)], byteCount: UInt64? = nil, kind: UnixFSData.Kind = .file) -> [UInt8] {
        let total = byteCount ?? links.reduce(0) { $0 &+ $1.1 }
        let data = UnixFSData(kind: kind, byteCount: total, linkByteCounts: links.map(\.1))
        return DAGNode(links: links.map { DAGNode.Link(cid: $0.0, graphByteCount: 0) }, data: data.bytes).bytes
    }

    func refuses(_ block: [UInt8], limits: GraphLimits = GraphLimits(), _ comment: Comment) throws {
        var builder = try ManifestBuilder(root: name(block), limits: limits)
        let error = #expect(throws: ContentError.self, comment) { try builder.receive(Bytes(block)) }
        #expect(error?.code == .invalidGraph, comment)
    }

    @Test func graphsThatContradictThemselvesAreRefused() throws {
        try refuses(node([(leaf, 3)], byteCount: 4), "another total")
        try refuses(node([(leaf, 0)]), "an empty leaf")
        try refuses(node([(leaf, 3 << 20)]), "a leaf beyond the limit")
        try refuses(node([]), "no links")
        try refuses(node([(leaf, 3)], kind: .directory), "a directory")
        try refuses(
            node([(leaf, 1 << 20), (name([1]), UInt64(Int64.max))], byteCount: 5), "more than a file can hold")
        try refuses([1, 2, 3], "no node at all")
        var data = UnixFSData(kind: .file, byteCount: 3, linkByteCounts: [3])
        data.data = [1]
        try refuses(
            DAGNode(links: [DAGNode.Link(cid: leaf, graphByteCount: 0)], data: data.bytes).bytes, "content in a node")
        data.data = nil
        data.linkByteCounts = [1, 2]
        try refuses(
            DAGNode(links: [DAGNode.Link(cid: leaf, graphByteCount: 0)], data: data.bytes).bytes, "sizes without links")
        var limits = GraphLimits()
        limits.linksPerNode = 2
        try refuses(node([(leaf, 3), (leaf, 3), (leaf, 3)]), limits: limits, "too many links")
        limits.linksPerNode = 100
        limits.leaves = 2
        try refuses(node([(leaf, 3), (leaf, 3), (leaf, 3)]), limits: limits, "too many leaves")
    }

    @Test func aChildOfAnotherSizeThanItsParentSaysIsRefused() throws {
        let child = node([(leaf, 3)])
        let root = node([(name(child), 4)])
        var builder = try ManifestBuilder(root: name(root))
        #expect(try builder.receive(Bytes(root)))
        #expect(throws: ContentError.self) { try builder.receive(Bytes(child)) }
    }

    /// A tower of nodes, each of which names the one below it many times: small to send, endless to expand.
    @Test func aGraphThatExpandsWithoutEndIsRefused() throws {
        var block = node([(CID(codec: .raw, multihash: leaf.multihash), 1)])
        var blocks = [block]
        var size: UInt64 = 1
        for _ in 0..<8 {
            block = node([(CID, UInt64)](repeating: (name(block), size), count: 100))
            size *= 100
            blocks.append(block)
        }
        var builder = try ManifestBuilder(root: name(block))
        let error = #expect(throws: ContentError.self) {
            for block in blocks.reversed() { _ = try builder.receive(Bytes(block)) }
        }
        #expect(error?.code == .invalidGraph)
    }

    @Test func aGraphDeeperThanTheLimitIsRefused() throws {
        var block = node([(leaf, 3)])
        var blocks = [block]
        for _ in 0..<20 {
            block = node([(name(block), 3)])
            blocks.append(block)
        }
        var builder = try ManifestBuilder(root: name(block))
        let error = #expect(throws: ContentError.self) {
            for block in blocks.reversed() { _ = try builder.receive(Bytes(block)) }
        }
        #expect(error?.message.contains("deeper") == true)
    }
}
