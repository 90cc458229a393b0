import Glibc
import MartletCore
import MartletIdentity
import MartletStorage
import Synchronization
import TemporaryFiles
import Testing

@testable import MartletContent

/// Notes what a fetch tells.
final class EventLog: Sendable {
    private let stored = Mutex<[FetchEvent]>([])
    var events: [FetchEvent] { stored.withLock { $0 } }
    func append(_ event: FetchEvent) { stored.withLock { $0.append(event) } }

    var banned: [String] {
        events.compactMap { event in
            if case .corruptLeaf(let peer, let leaf) = event { return "\(peer) \(leaf)" }
            return nil
        }
    }

    var dropped: [String] {
        events.compactMap { event in
            if case .dropped(let peer, let reason) = event { return "\(peer) \(reason)" }
            return nil
        }
    }
}

@Suite struct FileFetchTests {
    let directory = TemporaryDirectory()

    func content(_ count: Int) -> [UInt8] {
        var random = RandomSource(seed: 1)
        return random.bytes(count)
    }

    func options(_ change: (inout FetchOptions) -> Void = { _ in }) -> FetchOptions {
        var options = FetchOptions()
        options.retryPause = .milliseconds(1)
        options.resumeWindow = .zero
        options.progressInterval = .milliseconds(5)
        options.plan.initialWindowByteCount = 8_000
        options.plan.maximumWindowByteCount = 16_000
        options.plan.batchByteCount = 4_000
        options.workByteCount = 5_000
        options.syncsToDisk = false
        change(&options)
        return options
    }

    func fetch(
        _ root: CID, _ sources: [FetchSource], executor: any BlockingExecutor = LaterExecutor(),
        log: EventLog = EventLog(), name: String = "copy", _ change: (inout FetchOptions) -> Void = { _ in }
    ) async throws -> FetchResult {
        try await FileFetch.run(
            root: root, to: directory.file(name), from: sources, executor: executor, options: options(change)
        ) { log.append($0) }
    }

    @Test(arguments: [0, 1, 999, 1000, 1001, 4000, 4001, 50_000, 99_999])
    func aFileOfAnySizeArrivesWhole(byteCount: Int) async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(byteCount))
        let result = try await fetch(shared.root, [node.source()]) { $0.syncsToDisk = true }
        #expect(directory.read("copy") == content(byteCount))
        #expect(result.byteCount == UInt64(byteCount))
        #expect(result.peers.map(\.byteCount) == [UInt64(byteCount)] || byteCount <= 1000)
        #expect(!directory.exists("copy.part"))
        #expect(!directory.exists("copy.part.journal"))
    }

    @Test func severalPeersSendTogether() async throws {
        let nodes = try [SharingNode(), SharingNode(), SharingNode()]
        var root: CID?
        for node in nodes { root = try await node.share(content(300_000)).root }
        let sources = nodes.enumerated().map { $1.source("node\($0)") }
        let result = try await fetch(try #require(root), sources)
        #expect(directory.read("copy") == content(300_000))
        #expect(result.peers.count == 3)
        #expect(result.peers.reduce(0) { $0 + $1.byteCount } == 300_000)
    }

    @Test func aFetchedFileCanBeSharedWithoutHashingItAgain() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_500))
        let result = try await fetch(shared.root, [node.source()])
        let second = try SharingNode()
        let again = try #require(try await second.files.add(fetched: result))
        #expect(again.root == shared.root)
        #expect(try await TestClient(second.connect()).leaf(shared.root, 50)?.content?.count == 500)
        _ = try await fetch(shared.root, [second.source()], name: "third")
        #expect(directory.read("third") == content(50_500))
        truncate(directory.file("copy"), 3)
        await #expect(throws: ContentError.self) { try await second.files.add(fetched: result) }
    }

    // MARK: Peers that fail

    @Test func aLyingPeerIsNamedBannedAndReplaced() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_000))
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let log = EventLog()
        let liar = ScriptedServer(file, .corrupt(leaf: 3))
        let honest = FetchSource(name: "honest") {
            while log.banned.isEmpty { await Task.yield() }
            return node.connect()
        }
        _ = try await fetch(shared.root, [liar.source("liar"), honest], log: log) {
            // On a busy machine it may be silent for long before its lie is found out.
            $0.plan.stallTimeout = .seconds(600)
        }
        #expect(directory.read("copy") == content(50_000))
        #expect(log.banned == ["liar 3"])
        #expect(liar.connectionCount == 1)
    }

    @Test func onlyLiarsMeansNoFileAndTheReasonsAreNamed() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        // Of the same leaf: what one gets wrong the other might bring.
        let liars = [ScriptedServer(file, .corrupt(leaf: 3)), ScriptedServer(file, .corrupt(leaf: 3))]
        let error = await #expect(throws: ContentError.self) {
            try await fetch(file.root, [liars[0].source("one"), liars[1].source("two")])
        }
        #expect(error?.code == .noPeersLeft)
        #expect(error?.message.contains("one: sent leaf") == true)
        #expect(error?.message.contains("two: sent leaf") == true)
        #expect(!directory.exists("copy"))
    }

    @Test(arguments: ScriptedServer.Script.all)
    func whateverOnePeerDoesTheOtherBringsTheFile(script: ScriptedServer.Script) async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_000))
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let odd = ScriptedServer(file, script)
        _ = try await fetch(shared.root, [odd.source("odd"), node.source("honest")]) {
            $0.plan.stallTimeout = .milliseconds(50)
        }
        #expect(directory.read("copy") == content(50_000), "\(script)")
    }

    @Test(arguments: ScriptedServer.Script.all.filter(\.isHopeless))
    func aPeerThatBreaksTheProtocolAloneEndsTheFetchWithATypedError(script: ScriptedServer.Script) async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let odd = ScriptedServer(file, script)
        let error = await #expect(throws: ContentError.self, "\(script)") {
            try await fetch(file.root, [odd.source("odd")]) {
                $0.plan.stallTimeout = .milliseconds(50)
                $0.plan.lostTimeout = .milliseconds(50)
                $0.maximumAttempts = 2
            }
        }
        #expect(error?.code == .noPeersLeft, "\(script)")
        #expect(!directory.exists("copy"))
    }

    @Test func aPeerThatDisconnectsIsAskedAgain() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let flaky = ScriptedServer(file, .disconnectAfter(bytes: 20_000))
        _ = try await fetch(file.root, [flaky.source("flaky")])
        #expect(directory.read("copy") == content(50_000))
        #expect(flaky.connectionCount > 2)
    }

    @Test func aFetchThatKeepsMovingArrivesWhole() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(300_000))
        let (moves, move) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let connections = Counter()
        // Every stream turns out not to be on the best connection.
        let source = FetchSource(name: "node", moves: moves) {
            connections.value += 1
            move.yield()
            return node.connect()
        }
        let log = EventLog()
        let result = try await fetch(shared.root, [source], log: log) { $0.maximumAttempts = 1 }
        #expect(directory.read("copy") == content(300_000))
        #expect(result.peers.map(\.byteCount) == [300_000])
        #expect(connections.value > 2)
        #expect(log.dropped == [])
    }

    @Test func aPeerThatWasOfUseIsAwaitedForAWhile() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let flaky = ScriptedServer(file, .disconnectAfter(bytes: 20_000))
        let streams = flaky.source("flaky")
        let attempts = Counter()
        struct Refused: Error {}
        let source = FetchSource(name: "flaky") {
            // Of four attempts three fail, which is more than is allowed in a row.
            guard attempts.next() % 4 == 0 else { throw Refused() }
            return try await streams.openStream()
        }
        _ = try await fetch(file.root, [source]) {
            $0.maximumAttempts = 2
            $0.resumeWindow = .seconds(600)
        }
        #expect(directory.read("copy") == content(50_000))
    }

    /// What was of use is awaited for long, but not where somebody says that it is gone.
    @Test func aPeerThatIsSaidToBeGoneIsGivenUpThoughItWasOfUse() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let streams = ScriptedServer(file, .disconnectAfter(bytes: 20_000)).source("killed")
        let attempts = Counter()
        let source = FetchSource(name: "killed") {
            guard attempts.next() == 0 else { throw FetchSourceGone("connection refused") }
            return try await streams.openStream()
        }
        let error = await #expect(throws: ContentError.self) {
            try await fetch(file.root, [source]) {
                $0.maximumAttempts = 3
                $0.resumeWindow = .seconds(600)
            }
        }
        #expect(error?.message.contains("killed: not reachable (connection refused)") == true)
        #expect(attempts.value == 3)
    }

    @Test func unreachablePeersAreGivenUp() async throws {
        struct Refused: Error, CustomStringConvertible { var description: String { "refused" } }
        let root = CID(codec: .dagPB, multihash: Multihash(SHA256.hash([1])))
        let attempts = Counter()
        let source = FetchSource(name: "nobody") {
            attempts.value += 1
            throw Refused()
        }
        let error = await #expect(throws: ContentError.self) {
            try await fetch(root, [source]) { $0.maximumAttempts = 3 }
        }
        #expect(error?.code == .noPeersLeft)
        #expect(error?.message.contains("nobody: not reachable (refused)") == true)
        #expect(attempts.value == 3)
    }

    @Test func aPeerWithoutTheFileIsNotAskedAgain() async throws {
        let empty = try SharingNode()
        let node = try SharingNode()
        let shared = try await node.share(content(20_000))
        let log = EventLog()
        _ = try await fetch(shared.root, [empty.source("empty"), node.source("full")], log: log)
        #expect(directory.read("copy") == content(20_000))
        let error = await #expect(throws: ContentError.self) {
            try await fetch(shared.root, [empty.source("empty")], name: "other")
        }
        #expect(error?.message.contains("empty: does not have it (notFound)") == true)
    }

    @Test func aFileThatGoesStaleEndsTheFetchUnlessAnotherHasIt() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_000))
        truncate(node.directory.file("file"), 10)
        let error = await #expect(throws: ContentError.self) { try await fetch(shared.root, [node.source()]) }
        #expect(error?.code == .noPeersLeft)
        let other = try SharingNode()
        _ = try await other.share(content(50_000))
        _ = try await fetch(shared.root, [node.source("stale"), other.source("good")])
        #expect(directory.read("copy") == content(50_000))
    }

    @Test func aGraphThatIsNoFileEndsTheFetchForAllPeers() async throws {
        let data = UnixFSData(kind: .directory)
        let block = DAGNode(links: [], data: data.bytes).bytes
        let root = CID(codec: .dagPB, multihash: Multihash(SHA256.hash(block)))
        let node = try SharingNode()
        try node.files.blocks.put([(root.multihash, Bytes(block))])
        let error = await #expect(throws: ContentError.self) { try await fetch(root, [node.source(), node.source()]) }
        #expect(error?.code == .invalidGraph)
        let cbor = CID(codec: .dagCBOR, multihash: root.multihash)
        let other = await #expect(throws: ContentError.self) { try await fetch(cbor, [node.source()]) }
        #expect(other?.code == .unsupportedCID)
    }

    // MARK: Crashes and resuming

    @Test func aFetchCrashedAtAnyStepGoesOnFromThere() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(12_000))
        var steps = 0
        while true {
            let executor = CrashingExecutor(after: steps)
            do {
                _ = try await fetch(shared.root, [node.source()], executor: executor) { $0.maximumAttempts = 1 }
                #expect(directory.read("copy") == content(12_000), "\(steps) steps")
                break
            } catch {
                #expect(!directory.exists("copy"))
            }
            steps += 1
            try #require(steps < 100)
            // Going on from wherever that stopped gives the whole file.
            _ = try await fetch(shared.root, [node.source()])
            #expect(directory.read("copy") == content(12_000), "after \(steps) steps")
            #expect(!directory.exists("copy.part") && !directory.exists("copy.part.journal"))
            unlink(directory.file("copy"))
        }
        #expect(steps > 10)
    }

    @Test func aResumedFetchAsksOnlyForWhatIsMissing() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_000))
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let half = ScriptedServer(file, .disconnectAfter(bytes: 25_000))
        await #expect(throws: ContentError.self) {
            try await fetch(shared.root, [half.source("half")]) { $0.maximumAttempts = 1 }
        }
        #expect(directory.exists("copy.part"))
        let log = EventLog()
        let result = try await fetch(shared.root, [node.source()], log: log)
        #expect(directory.read("copy") == content(50_000))
        #expect(result.resumedByteCount > 5_000)
        #expect(result.peers[0].byteCount == 50_000 - result.resumedByteCount)
    }

    @Test func whatWasDamagedSinceIsFetchedAgain() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(50_000))
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let half = ScriptedServer(file, .disconnectAfter(bytes: 40_000))
        await #expect(throws: ContentError.self) {
            try await fetch(shared.root, [half.source("half")]) { $0.maximumAttempts = 1 }
        }
        // As after a power failure: the journal is on the disk, the content is not.
        let part = open(directory.file("copy.part"), O_WRONLY)
        _ = pwrite(part, [UInt8](repeating: 0, count: 5_000), 5_000, 0)
        close(part)
        let result = try await fetch(shared.root, [node.source()])
        #expect(directory.read("copy") == content(50_000))
        #expect(result.peers[0].byteCount >= 5_000)
    }

    @Test func aPartFileOfSomethingElseIsBegunAnew() async throws {
        let node = try SharingNode()
        let first = try await node.share(content(50_000), as: "first")
        let second = try await node.share(Array(content(60_000).reversed()), as: "second")
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let half = ScriptedServer(file, .disconnectAfter(bytes: 40_000))
        await #expect(throws: ContentError.self) {
            try await fetch(first.root, [half.source("half")]) { $0.maximumAttempts = 1 }
        }
        let result = try await fetch(second.root, [node.source()])
        #expect(directory.read("copy") == Array(content(60_000).reversed()))
        #expect(result.resumedByteCount == 0)
    }

    @Test func aCancelledFetchStopsAndGoesOnLater() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let stuck = ScriptedServer(file, .stallAfter(bytes: 20_000))
        let log = EventLog()
        let task = Task { try await fetch(file.root, [stuck.source("stuck")], log: log) }
        while !log.events.contains(where: { if case .progress(let p) = $0 { p.doneLeafCount > 3 } else { false } }) {
            await Task.yield()
        }
        task.cancel()
        let error = await #expect(throws: ContentError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        let node = try SharingNode()
        _ = try await node.share(content(50_000))
        let result = try await fetch(file.root, [node.source()])
        #expect(result.resumedByteCount > 0)
        #expect(directory.read("copy") == content(50_000))
    }

    // MARK: The destination

    @Test func whatIsThereIsNotWrittenOverUnasked() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(5_000))
        directory.write([1], to: "copy")
        let error = await #expect(throws: ContentError.self) { try await fetch(shared.root, [node.source()]) }
        #expect(error?.code == .destinationExists)
        #expect(error?.path == directory.file("copy"))
        #expect(directory.read("copy") == [1])
        _ = try await fetch(shared.root, [node.source()]) { $0.replacesExisting = true }
        #expect(directory.read("copy") == content(5_000))
        directory.write([7], to: "other.part")
        let other = await #expect(throws: ContentError.self) {
            try await fetch(shared.root, [node.source()], name: "other")
        }
        #expect(other?.code == .destinationExists)
        #expect(directory.read("other.part") == [7])
    }

    @Test func twoFetchesToOnePlaceDoNotMix() async throws {
        let file = TestFile(content: content(50_000), layout: SharingNode.layout)
        let stuck = ScriptedServer(file, .stallAfter(bytes: 20_000))
        let log = EventLog()
        let first = Task { try await fetch(file.root, [stuck.source("stuck")], log: log) }
        while !log.events.contains(where: { if case .connected = $0 { true } else { false } }) { await Task.yield() }
        let error = await #expect(throws: ContentError.self) { try await fetch(file.root, [stuck.source("stuck")]) }
        #expect(error?.code == .inUse)
        first.cancel()
        _ = await first.result
    }

    @Test func aMissingDirectoryIsNamed() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(5_000))
        let error = await #expect(throws: ContentError.self) {
            try await fetch(shared.root, [node.source()], name: "no/such/copy")
        }
        #expect(error?.code == .notFound)
        #expect(error?.path == directory.file("no/such"))
    }

    @Test(.enabled(if: SmallFileSystem.isPossible)) func aFullDiskStopsTheFetchAndItGoesOnLater() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(300_000))
        let disk = SmallFileSystem(byteCount: 100_000)
        func fetchToDisk() async throws -> FetchResult {
            try await FileFetch.run(
                root: shared.root, to: disk.path + "/copy", from: [node.source()], executor: DirectExecutor(),
                options: options())
        }
        let error = await #expect(throws: ContentError.self) { try await fetchToDisk() }
        #expect(error?.code == .diskFull)
        #expect(error?.path == disk.path)
        #expect(access(disk.path + "/copy.part", F_OK) != 0)
        disk.resize(byteCount: 1 << 20)
        #expect(try await fetchToDisk().byteCount == 300_000)
    }

    @Test(.enabled(if: SmallFileSystem.isPossible)) func aReadOnlyDirectoryIsNamed() async throws {
        let node = try SharingNode()
        let shared = try await node.share(content(3_000))
        let disk = SmallFileSystem(byteCount: 100_000)
        disk.setReadOnly(true)
        func fetchToDisk() async throws -> FetchResult {
            try await FileFetch.run(
                root: shared.root, to: disk.path + "/copy", from: [node.source()], executor: DirectExecutor(),
                options: options())
        }
        let error = await #expect(throws: ContentError.self) { try await fetchToDisk() }
        #expect(error?.code == .readOnly)
        #expect(error?.path == disk.path)
        disk.setReadOnly(false)
        #expect(try await fetchToDisk().byteCount == 3_000)
    }
}
