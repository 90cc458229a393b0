import MartletCore
import MartletIdentity
import TemporaryFiles
import Testing

@testable import MartletContent

@Suite struct BlockServerTests {
    func content(_ count: Int) -> [UInt8] {
        var random = RandomSource(seed: 1)
        return random.bytes(count)
    }

    @Test func structuresComeBreadthFirstAndMakeTheManifest() async throws {
        let node = try SharingNode()
        let bytes = content(99_000)
        let shared = try await node.share(bytes)
        let client = TestClient(node.connect(piece: 7))
        try await client.stream.write(client.session.requestStructure(root: shared.root, nodeByteCount: 1000).message)
        var builder = try ManifestBuilder(root: shared.root)
        loop: while let event = try await client.next() {
            switch event {
            case .node(_, let payload): #expect(try builder.receive(payload.joined))
            case .structureEnded(_, let status):
                #expect(status == .end)
                break loop
            case .leaf, .unavailable: Issue.record("unexpected")
            }
        }
        #expect(builder.manifest?.leaves.map(\.digest) == TestFile(content: bytes, layout: SharingNode.layout).leaves)
    }

    @Test func absurdRangesAreAnsweredOnce() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(3_500))
        let none = CID(codec: .raw, multihash: Multihash(SHA256.hash([9])))
        let stream = node.connect()
        try await stream.write(
            BlockStream.Request.leaves(id: 1, root: shared.root, ranges: [900_000..<1_000_000, 3..<5]).encoded)
        try await stream.write(BlockStream.Request.leaves(id: 2, root: none, ranges: [0..<500_000]).encoded)
        try await stream.finish()
        var answer: [UInt8] = []
        while let bytes = try await stream.read() { answer += bytes.array }
        var expected: [UInt8] = []
        func header(_ id: UInt32, _ position: UInt64, _ status: BlockStream.Status, _ count: UInt64) {
            BlockStream.ItemHeader(requestID: id, position: position, status: status, count: count)
                .append(to: &expected)
        }
        header(1, 0, .notFound, 100_000)
        header(1, 100_000, .found, 500)
        expected += content(3_500)[3000...]
        header(1, 100_001, .notFound, 1)
        header(2, 0, .notFound, 500_000)
        #expect(answer == expected)
    }

    @Test func aClientThatBreaksTheProtocolIsReset() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(3_500))
        for bad in [
            BlockStream.Request.leaves(id: 1, root: shared.root, ranges: [0..<(1 << 62)]).encoded,
            Bytes([UInt8](repeating: 0xFF, count: 100)), [1, 77],
        ] {
            let (client, server) = MemoryStream.pair()
            let serving = Task { try await node.server.serve(server) }
            try await client.write(bad)
            await #expect(throws: BlockStreamError.self) { try await serving.value }
            await #expect(throws: MemoryStream.Reset.self) { while try await client.read() != nil {} }
        }
    }

    @Test func aClientThatDoesNotReadIsNotReadAheadFor() async throws {
        let node = try SharingNode { $0.readAheadByteCount = 5_000 }
        let shared = try await node.share(content(200_000))
        let stream = node.connect()
        try await stream.write(BlockStream.Request.leaves(id: 1, root: shared.root, ranges: [0..<200]).encoded)
        // What the stream takes and what the server reads ahead; the rest stays in the file.
        for _ in 0..<200 { await Task.yield() }
        #expect(node.server.totalSentByteCount <= 10_000 + 3_000)
        stream.reset()
    }

    /// After answers of a few bytes, or of a file of small leaves, the server must not take a file of large leaves for one
    /// of which many may be read at once.
    @Test func whatIsReadAtOnceIsLimitedWhateverWasReadBefore() async throws {
        let node = try SharingNode { $0.readAheadByteCount = 300 << 10 }
        let small = try await node.share(content(50_000), as: "small")
        node.directory.write(content(4 << 20), to: "large")
        let large = try await node.files.add(
            node.directory.file("large"), layout: FileLayout(leafByteCount: 256 << 10))
        let none = CID(codec: .raw, multihash: Multihash(SHA256.hash([9])))
        let stream = node.connect()
        try await stream.write(BlockStream.Request.leaves(id: 1, root: small.root, ranges: [0..<50]).encoded)
        try await stream.write(BlockStream.Request.leaves(id: 2, root: none, ranges: [0..<50]).encoded)
        try await stream.write(BlockStream.Request.leaves(id: 3, root: large.root, ranges: [15..<16, 0..<15]).encoded)
        var received = 0
        while received < 50_000, let bytes = try await stream.read() { received += bytes.count }
        for _ in 0..<200 { await Task.yield() }
        // At most what the stream takes beyond its capacity, in one piece, has gone out; the rest is read as room comes.
        #expect(node.server.totalSentByteCount <= 60_000 + 600 << 10)
        try await stream.finish()
        while let bytes = try await stream.read() { received += bytes.count }
        #expect(received > 50_000 + 4 << 20)
    }

    @Test func anExecutorWithoutRoomMeansTooBusy() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(3_500))
        let server = BlockServer(files: node.files, executor: CrashingExecutor(after: 1))
        let (near, far) = MemoryStream.pair()
        Task { try await server.serve(far) }
        let client = TestClient(near)
        #expect(try await client.leaves(shared.root, 0..<4).map(\.2) == [.found, .tooBusy, .tooBusy, .tooBusy])
    }

    @Test func moreStreamsThanTheLimitAreToldSo() async throws {
        let node = try SharingNode { $0.maximumStreams = 1 }
        let shared = try await node.share(content(3_500))
        let first = TestClient(node.connect())
        #expect(try await first.leaf(shared.root, 0)?.status == .found)
        let second = TestClient(node.connect())
        #expect(try await second.leaves(shared.root, 0..<4).map(\.2) == [.tooBusy, .tooBusy, .tooBusy, .tooBusy])
        try await second.stream.write(
            second.session.requestStructure(root: shared.root, nodeByteCount: 1000).message)
        guard case .structureEnded(_, .tooBusy) = try await second.next() else {
            Issue.record("not told")
            return
        }
    }

    @Test func aCancelledRequestStops() async throws {
        let node = try SharingNode { $0.readAheadByteCount = 1 }
        let shared = try await node.share(content(200_000))
        let client = TestClient(node.connect())
        let (id, message) = client.session.requestLeaves(
            root: shared.root, (0..<200).map { BlockClientSession.LeafRequest(index: $0, byteCount: 1000) })
        try await client.stream.write(message)
        guard case .leaf(_, 0, _) = try await client.next() else {
            Issue.record("no leaf")
            return
        }
        let cancellation = client.session.cancel(id)
        let cancel = try #require(cancellation)
        try await client.stream.write(cancel)
        #expect(try await client.leaf(shared.root, 199)?.content?.count == 1000)
        #expect(node.server.totalSentByteCount < 100_000)
    }

    @Test func aStructureOfWhatIsNotSharedIsNotFound() async throws {
        let node = try SharingNode()
        let client = TestClient(node.connect())
        for codec in [CID.Codec.dagPB, .raw, .dagCBOR] {
            let root = CID(codec: codec, multihash: Multihash(SHA256.hash([9])))
            try await client.stream.write(client.session.requestStructure(root: root, nodeByteCount: 1000).message)
            guard case .structureEnded(_, .notFound) = try await client.next() else {
                Issue.record("found")
                return
            }
        }
    }
}
