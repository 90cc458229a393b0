import Glibc
import MartletCore
import MartletStorage
import Synchronization
import TemporaryFiles

@testable import MartletContent

/// A node's worth of sharing: files in a directory, their index, a server.
final class SharingNode: Sendable {
    let directory = TemporaryDirectory()
    let storage: StorageEnvironment
    let files: SharedFiles
    let server: BlockServer
    let staleCount = Counter()

    static let layout = FileLayout(unchecked: 1000, maximumLinkCount: 4)

    init(_ change: (inout BlockServer.Configuration) -> Void = { _ in }) throws {
        var configuration = StorageEnvironment.Configuration()
        configuration.durability = .lastWritesMayBeLost
        storage = try StorageEnvironment(directory: directory.file("data"), configuration: configuration)
        let staleCount = staleCount
        files = try SharedFiles(storage, executor: DirectExecutor()) { _ in staleCount.value += 1 }
        var serving = BlockServer.Configuration()
        change(&serving)
        server = BlockServer(files: files, executor: DirectExecutor(), configuration: serving)
    }

    /// Writes a file, and shares it.
    func share(_ content: [UInt8], as name: String = "file") async throws -> SharedFile {
        directory.write(content, to: name)
        return try await files.add(directory.file(name), layout: Self.layout)
    }

    /// A stream to the server, as a client's end.
    func connect(piece: Int = 1500) -> MemoryStream {
        let (client, server) = MemoryStream.pair(capacity: 10_000, piece: piece)
        let blocks = self.server
        Task { try? await blocks.serve(server) }
        return client
    }

    func source(_ name: String = "node") -> FetchSource {
        FetchSource(name: name) { self.connect() }
    }
}

final class Counter: Sendable {
    private let stored = Atomic<Int>(0)

    var value: Int {
        get { stored.load(ordering: .relaxed) }
        set { stored.store(newValue, ordering: .relaxed) }
    }

    /// Adds one and returns what it was before.
    func next() -> Int { stored.wrappingAdd(1, ordering: .relaxed).oldValue }
}

/// A client that asks by hand.
final class TestClient {
    let stream: MemoryStream
    var session = BlockClientSession()
    private var events: [BlockClientSession.Event] = []

    init(_ stream: MemoryStream) { self.stream = stream }

    /// The next event; nil when the server has finished or reset the stream.
    func next() async throws -> BlockClientSession.Event? {
        while events.isEmpty {
            guard let bytes = try await stream.read() else { return nil }
            try session.received(bytes)
            while let event = session.nextEvent() { events.append(event) }
        }
        return events.removeFirst()
    }

    /// What became of leaves, in the order of the answers: content or status.
    func leaves(_ root: CID, _ indices: Range<UInt64>) async throws -> [(UInt64, [UInt8]?, BlockStream.Status)] {
        let (_, message) = session.requestLeaves(
            root: root, indices.map { BlockClientSession.LeafRequest(index: $0, byteCount: nil) })
        try await stream.write(message)
        var found: [(UInt64, [UInt8]?, BlockStream.Status)] = []
        while found.count < indices.count, let event = try await next() {
            switch event {
            case .leaf(_, let index, let payload): found.append((index, payload.joined.array, .found))
            case .unavailable(_, let indices, let status): found += indices.map { ($0, nil, status) }
            case .node, .structureEnded: break
            }
        }
        return found
    }

    func leaf(_ root: CID, _ index: UInt64) async throws -> (content: [UInt8]?, status: BlockStream.Status)? {
        try await leaves(root, index..<index + 1).first.map { ($0.1, $0.2) }
    }
}
