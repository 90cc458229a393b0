import Glibc
import MartletCore
import MartletIdentity
import MartletStorage
import TemporaryFiles
import Testing

@testable import MartletContent

@Suite struct SharedFilesTests {
    func content(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var random = RandomSource(seed: seed)
        return random.bytes(count)
    }

    @Test func aSharedFileHasTheRootOfItsContentAndServesEveryLeaf() async throws {
        let node = try SharingNode()
        let bytes = content(9_500)
        let shared = try await node.share(bytes)
        #expect(shared.root == TestFile(content: bytes, layout: SharingNode.layout).root)
        #expect(shared.byteCount == 9_500)
        let client = TestClient(node.connect())
        let leaves = try await client.leaves(shared.root, 0..<12)
        #expect(leaves.count == 12)
        for (index, bytes, status) in leaves {
            #expect(status == (index < 10 ? .found : .notFound))
            if index < 10 {
                #expect(bytes == TestFile(content: content(9_500), layout: SharingNode.layout).leaf(Int(index)))
            }
        }
        #expect(try await node.files.list() == [shared])
    }

    @Test(arguments: [0, 1, 999, 1000, 1001, 4000, 4001, 16_000])
    func filesOfAnySizeAreShared(byteCount: Int) async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(byteCount))
        #expect(shared.root == TestFile(content: content(byteCount), layout: SharingNode.layout).root)
        let last = shared.layout.leafCount(of: UInt64(byteCount)) - 1
        let leaf = try await TestClient(node.connect()).leaf(shared.root, last)
        #expect(leaf?.content == TestFile(content: content(byteCount), layout: SharingNode.layout).leaf(Int(last)))
    }

    @Test func sharingAgainCostsNothingUntilTheFileChanges() async throws {
        let node = try SharingNode()
        let first = try await node.share(content(5_000))
        let hashed = Counter()
        let again = try await node.files.add(node.directory.file("file"), layout: SharingNode.layout) { _ in
            hashed.value += 1
        }
        #expect(again == first)
        #expect(hashed.value == 0)
        let changed = try await node.share(content(5_000, seed: 2))
        #expect(changed.root != first.root)
        #expect(try await node.files.list() == [changed])
        #expect(try await TestClient(node.connect()).leaf(first.root, 0)?.status == .notFound)
    }

    @Test(arguments: ["rewritten", "grown", "truncated", "replaced", "deleted", "touched"])
    func aChangedFileIsNeverServed(how: String) async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(5_000))
        let client = TestClient(node.connect())
        // Open it first, so that the server holds a descriptor of the old file.
        #expect(try await client.leaf(shared.root, 0)?.status == .found)
        let path = node.directory.file("file")
        switch how {
        case "rewritten":
            let file = open(path, O_WRONLY)
            _ = pwrite(file, [1, 2, 3], 3, 100)
            close(file)
        case "grown":
            let file = open(path, O_WRONLY | O_APPEND)
            _ = write(file, [1], 1)
            close(file)
        case "truncated": truncate(path, 4_999)
        case "replaced":
            node.directory.write(content(5_000, seed: 2), to: "other")
            rename(node.directory.file("other"), path)
        case "deleted": unlink(path)
        default:
            var times = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
            utimensat(AT_FDCWD, path, &times, 0)
        }
        for index in 0..<5 as Range<UInt64> {
            #expect(try await client.leaf(shared.root, index)?.status == .stale, "\(how)")
        }
        let listed = try await node.files.list()
        guard case .stale = try #require(listed.first).state else {
            Issue.record("not marked stale when \(how)")
            return
        }
        #expect(node.staleCount.value == 1)
        guard how != "deleted" else {
            await #expect(throws: ContentError.self) {
                try await node.files.add(path, layout: SharingNode.layout)
            }
            return
        }
        let again = try await node.files.add(path, layout: SharingNode.layout)
        #expect(again.state == .current)
        #expect(try await client.leaf(again.root, 0)?.status == .found)
    }

    @Test func listingCanLookAtEveryFile() async throws {
        let node = try SharingNode()
        let kept = try await node.share(content(5_000), as: "kept")
        let changed = try await node.share(content(5_000, seed: 2), as: "changed")
        unlink(node.directory.file("changed"))
        #expect(try await node.files.list().map(\.state) == [.current, .current])
        let listed = try await node.files.list(checking: true)
        #expect(listed.map(\.id) == [kept.id, changed.id])
        #expect(listed.map(\.state) == [.current, .stale("it is gone")])
    }

    @Test func theSameContentAtTwoPathsIsServedWhileOneIsLeft() async throws {
        let node = try SharingNode()
        let first = try await node.share(content(5_000), as: "first")
        let second = try await node.share(content(5_000), as: "second")
        #expect(first.root == second.root)
        let client = TestClient(node.connect())
        #expect(try await client.leaf(first.root, 4)?.status == .found)
        unlink(node.directory.file("first"))
        #expect(try await client.leaf(first.root, 4)?.status == .found)
        unlink(node.directory.file("second"))
        #expect(try await client.leaf(first.root, 4)?.status == .stale)
        #expect(try await node.files.files(of: first.root).count == 2)
    }

    @Test func removingOneOfTwoKeepsTheOther() async throws {
        let node = try SharingNode()
        let first = try await node.share(content(5_000), as: "first")
        _ = try await node.share(content(5_000), as: "second")
        try await node.files.remove(path: node.directory.file("first"))
        let client = TestClient(node.connect())
        #expect(try await client.leaf(first.root, 4)?.status == .found)
        #expect(try await structure(client, first.root) == 3)
        try await node.files.remove(root: first.root)
        #expect(try await client.leaf(first.root, 4)?.status == .notFound)
        try node.storage.read { transaction throws in
            #expect(try node.files.leaves.count(in: transaction) == 0)
            #expect(try node.files.nodes.count(in: transaction) == 0)
            #expect(try node.files.roots.count(in: transaction) == 0)
            #expect(try node.files.paths.count(in: transaction) == 0)
            #expect(try node.files.pending.count(in: transaction) == 0)
            #expect(try node.files.blocks.count(in: transaction) == 0)
        }
        await #expect(throws: ContentError.self) { try await node.files.remove(root: first.root) }
        await #expect(throws: ContentError.self) { try await node.files.remove(path: "/no/such") }
    }

    func structure(_ client: TestClient, _ root: CID) async throws -> Int {
        try await client.stream.write(client.session.requestStructure(root: root, nodeByteCount: 1 << 20).message)
        var count = 0
        while let event = try await client.next() {
            switch event {
            case .node: count += 1
            case .structureEnded(_, let status): return status == .end ? count : -1
            case .leaf, .unavailable: return -2
            }
        }
        return -3
    }

    @Test func blocksAreServedByTheirName() async throws {
        let node = try SharingNode()
        let bytes = content(5_000)
        let shared = try await node.share(bytes)
        let file = TestFile(content: bytes, layout: SharingNode.layout)
        let stream = node.connect()
        let leaf = CID(codec: .raw, multihash: Multihash(file.leaves[3]))
        let none = CID(codec: .raw, multihash: Multihash(SHA256.hash([9])))
        let identity = CID(codec: .raw, multihash: try Multihash(code: .identity, digest: [1, 2]))
        try await stream.write(BlockStream.Request.blocks(id: 5, cids: [leaf, shared.root, none, identity]).encoded)
        try await stream.finish()
        var answer: [UInt8] = []
        while let bytes = try await stream.read() { answer += bytes.array }
        var expected: [UInt8] = []
        func header(_ position: UInt64, _ status: BlockStream.Status, _ count: Int) {
            BlockStream.ItemHeader(requestID: 5, position: position, status: status, count: UInt64(count))
                .append(to: &expected)
        }
        header(0, .found, 1000)
        expected += file.leaf(3)
        let root = try #require(file.nodes.last).block.array
        header(1, .found, root.count)
        expected += root
        header(2, .notFound, 1)
        header(3, .notFound, 1)
        #expect(answer == expected)
    }

    @Test func whatCannotBeSharedIsSaid() async throws {
        let node = try SharingNode()
        mkfifo(node.directory.file("fifo"), 0o600)
        for (path, code) in [
            (node.directory.path, ContentError.Code.notAFile), (node.directory.file("fifo"), .notAFile),
            (node.directory.file("missing"), .notFound), ("/dev/null", .notAFile),
        ] {
            let error = await #expect(throws: ContentError.self) { try await node.files.add(path) }
            #expect(error?.code == code)
            #expect(error?.path == path)
        }
    }

    @Test func theIndexSurvivesReopeningAndForgetsWhatWasHalfDone() async throws {
        let directory = TemporaryDirectory()
        let bytes = content(5_000)
        directory.write(bytes, to: "file")
        var root: CID?
        do {
            let storage = try StorageEnvironment(directory: directory.file("data"))
            let files = try SharedFiles(storage, executor: DirectExecutor())
            root = try await files.add(directory.file("file"), layout: SharingNode.layout).root
            // Stops in the middle, as a crash would.
            directory.write(content(50_000, seed: 2), to: "other")
            let crashing = try SharedFiles(storage, executor: CrashingExecutor(after: 3))
            await #expect(throws: CrashingExecutor.Crash.self) {
                try await crashing.add(directory.file("other"), layout: SharingNode.layout)
            }
            #expect(try storage.read { try files.pending.count(in: $0) } == 1)
            try storage.close()
        }
        let storage = try StorageEnvironment(directory: directory.file("data"))
        let files = try SharedFiles(storage, executor: DirectExecutor())
        #expect(try await files.list().map(\.root) == [root])
        try storage.read { transaction throws in
            #expect(try files.pending.count(in: transaction) == 0)
            #expect(try files.leaves.count(in: transaction) == 5)
        }
    }

    @Test func aFileThatChangesWhileItIsHashedIsNotShared() async throws {
        let node = try SharingNode()
        node.directory.write(content(20 << 20), to: "file")
        let path = node.directory.file("file")
        let error = await #expect(throws: ContentError.self) {
            try await node.files.add(path) { _ in truncate(path, 5) }
        }
        #expect(error?.code == .changedWhileReading)
        #expect(try await node.files.list().isEmpty)
    }
}

/// Runs so many pieces of work, then none any more: what is on the disk then is what a killed process leaves.
final class CrashingExecutor: BlockingExecutor {
    struct Crash: Error {}
    private let count = Counter()
    private let limit: Int

    init(after limit: Int) { self.limit = limit }

    var runCount: Int { count.value }

    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        guard count.next() < limit else { throw Crash() }
        return try body()
    }
}
