import MartletCore
import MartletIdentity
import Testing

@testable import MartletContent

@Suite struct UnixFSTests {
    func root(of bytes: [UInt8], leaf: Int = 1 << 20) throws -> String {
        TestFile(content: bytes, layout: try FileLayout(leafByteCount: leaf)).root.description
    }

    /// Source: github.com/ipfs/kubo test/cli/add_test.go and test/sharness; the CIDs of `ipfs add --cid-version=1`.
    @Test func oneLeafIsTheFile() throws {
        #expect(
            try root(of: Array("hello world".utf8)) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
        #expect(try root(of: []) == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
    }

    /// Source: github.com/ipfs/kubo test/cli/add_test.go, profile test-cid-v1 (CIDv1, raw leaves, 1 MiB, 174 links),
    /// seed "v1-seed": one node of 174 leaves, and the next leaf, which adds a level.
    @Test(arguments: [
        (174, "bafybeigwduxcf2aawppv3isnfeshnimkyplvw3hthxjhr2bdeje4tdaicu"),
        (175, "bafybeidhd7lo2n2v7lta5yamob3xwhbxcczmmtmhquwhjesi35jntf7mpu"),
    ])
    func graphsAreThoseOfKubo(mebibytes: Int, expected: String) {
        var stream = KeyStream(seed: "v1-seed")
        var builder = DAGBuilder(layout: FileLayout())
        var nodes = 0
        for _ in 0..<mebibytes {
            builder.append(leaf: SHA256.hash(stream.next(1 << 20)), byteCount: 1 << 20) { _ in nodes += 1 }
        }
        #expect(builder.finish { _ in nodes += 1 }.description == expected)
        #expect(nodes == (mebibytes == 174 ? 1 : 3))
    }

    @Test func nodesDecodeToWhatTheyWereAndEncodeToTheSameBytes() throws {
        let file = TestFile(byteCount: 1000, leaf: 10, links: 4)
        for node in file.nodes {
            let decoded = try DAGNode(bytes: node.block.span)
            #expect(decoded.bytes == node.block.array)
            let encoded = try #require(decoded.data)
            let data = try UnixFSData(bytes: encoded.span.bytes)
            #expect(data.kind == .file)
            #expect(data.bytes == decoded.data)
            #expect(data.linkByteCounts.count == decoded.links.count)
        }
    }

    @Test func truncatedNodesAreRefusedAtEveryByte() throws {
        let block = try #require(TestFile(byteCount: 40, leaf: 10).nodes.last).block.array
        for count in 1..<block.count {
            let prefix = Array(block[0..<count])
            // A prefix may be a whole node only where a field ends.
            if let node = try? DAGNode(bytes: prefix.span.bytes) { #expect(node.bytes == prefix) }
        }
    }

    @Test func nodesInAnotherEncodingAreRefused() throws {
        let link = DAGNode.Link(cid: CID(codec: .raw, multihash: Multihash(SHA256.hash([UInt8]()))), graphByteCount: 1)
        let good = DAGNode(links: [link], data: [8, 2]).bytes
        let linkOnly = DAGNode(links: [link], data: nil).bytes
        let dataOnly = DAGNode(links: [], data: [8, 2]).bytes
        #expect(throws: Never.self) { try DAGNode(bytes: good.span.bytes) }
        for bad in [
            dataOnly + linkOnly,  // Data before Links
            dataOnly + dataOnly,  // Data twice
            good + [0x1A, 0x00],  // an unknown field
            [0x12, 0x80, 0x00],  // a length that is not in its shortest form
            [0x12, 0x00],  // a link without a hash
            [0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],  // a length far beyond the end
        ] as [[UInt8]] {
            #expect(throws: DecodingError.self) { try DAGNode(bytes: bad.span.bytes) }
        }
        for bad in [
            [],  // no type
            [0x08, 0x09],  // an unknown type
            [0x18, 0x01, 0x08, 0x02],  // out of order
            [0x08, 0x02, 0x18, 0x01, 0x18, 0x01],  // a size twice
        ] as [[UInt8]] {
            #expect(throws: DecodingError.self) { try UnixFSData(bytes: bad.span.bytes) }
        }
    }

    @Test func layoutsOutsideTheLimitsAreRefused() {
        for size in [0, 1, 255 << 10, (2 << 20) + 1] {
            #expect(throws: ContentError.self) { try FileLayout(leafByteCount: size) }
        }
        #expect(throws: ContentError.self) { try FileLayout(leafByteCount: 1 << 20, maximumLinkCount: 1) }
    }
}
