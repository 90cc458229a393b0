public import MartletCore
import MartletIdentity
import MartletStorage
import Synchronization

/// Serves shared files over `/martlet/blocks/1` streams.
///
///     let server = BlockServer(files: shared, executor: pool)
///     try await server.serve(stream)          // in the handler of BlockStream.protocolID
///
/// Leaves are read ahead of sending, each into one pooled buffer which goes to the stream as it is. What is read ahead is
/// bounded for each stream and, shared among them, for all.
public final class BlockServer: Sendable {
    public struct Configuration: Hashable, Sendable {
        public var limits = BlockStream.Limits()
        /// Streams that are served at the same time; more are answered that the server is too busy.
        public var maximumStreams = 64
        /// What is read ahead of sending for one stream, in bytes; at least one leaf.
        public var readAheadByteCount = 4 << 20
        /// What is read ahead for all streams together; a stream gets its share, and at least one leaf.
        public var totalReadAheadByteCount = 64 << 20

        public init() {}
    }

    public let configuration: Configuration
    private let files: SharedFiles
    private let executor: any BlockingExecutor
    private let buffers: LeafBuffers
    private let streamCount = Mutex(0)
    private let sentByteCount = Atomic<UInt64>(0)

    public init(files: SharedFiles, executor: any BlockingExecutor, configuration: Configuration = Configuration()) {
        self.files = files
        self.executor = executor
        self.configuration = configuration
        buffers = LeafBuffers(largestLeaf: configuration.limits.blockByteCount)
    }

    /// Bytes of blocks handed to streams since the start.
    public var totalSentByteCount: UInt64 { sentByteCount.load(ordering: .relaxed) }

    /// Answers the requests of one stream until the client finishes it.
    ///
    /// - Throws: `BlockStreamError` when the client breaks the protocol, after resetting the stream; what the stream throws.
    public func serve(_ stream: any ByteStream) async throws {
        let isBusy = streamCount.withLock { count in
            count += 1
            return count > configuration.maximumStreams
        }
        defer {
            let left = streamCount.withLock { count in
                count -= 1
                return count
            }
            if left == 0 { buffers.trim() }
        }
        let conversation = Conversation(limits: configuration.limits)
        try await withThrowingTaskGroup(of: Void.self) { group in
            func run(_ body: @escaping @Sendable () async throws -> Void) {
                group.addTask {
                    do {
                        try await body()
                    } catch {
                        // Whichever ends first ends the others.
                        stream.reset()
                        conversation.end()
                        throw error
                    }
                }
            }
            run { try await self.receive(stream, conversation) }
            run { try await self.answer(conversation, isBusy: isBusy) }
            run { try await self.send(stream, conversation) }
            try await group.waitForAll()
        }
    }

    // MARK: The three parts

    /// One stream: requests in, blocks out.
    private final class Conversation: Sendable {
        let session: Mutex<BlockServerSession>
        let hasEnded = Atomic<Bool>(false)
        let wake = Signal()
        let channel = ByteChannel()

        init(limits: BlockStream.Limits) {
            session = Mutex(BlockServerSession(limits: limits))
        }

        func end() {
            hasEnded.store(true, ordering: .releasing)
            wake.close()
            channel.finish(dropping: true)
        }
    }

    private func receive(_ stream: any ByteStream, _ conversation: Conversation) async throws {
        while let bytes = try await stream.read() {
            try conversation.session.withLock { session throws(BlockStreamError) in try session.received(bytes) }
            conversation.wake.signal()
        }
        try conversation.session.withLock { session throws(BlockStreamError) in try session.receivedEnd() }
        conversation.hasEnded.store(true, ordering: .releasing)
        conversation.wake.signal()
    }

    private func send(_ stream: any ByteStream, _ conversation: Conversation) async throws {
        while let bytes = await conversation.channel.next() {
            try await stream.write(bytes)
            sentByteCount.wrappingAdd(UInt64(bytes.count), ordering: .relaxed)
        }
        try await stream.finish()
    }

    private func answer(_ conversation: Conversation, isBusy: Bool) async throws {
        // The largest leaf seen of the file that is being sent: small leaves are read several at a time.
        var known: (root: CID, leafByteCount: Int)?
        while await conversation.channel.waitForRoom(below: readAhead) {
            // The flag is read first: what was received before it was set is in the session by now.
            let hasEnded = conversation.hasEnded.load(ordering: .acquiring)
            let size = known?.leafByteCount ?? configuration.limits.blockByteCount
            let step = conversation.session.withLock { session in
                let isKnown = session.nextRoot != nil && session.nextRoot == known?.root
                return session.next(maximum: isBusy ? .max : isKnown ? max(1, pieceByteCount / size) : 1)
            }
            guard let step else {
                if hasEnded { break }
                await conversation.wake.wait()
                continue
            }
            switch step {
            case .cancelled(let id, let position, let count):
                conversation.channel.send(header(id, position, .cancelled, count))
            case .structure(let id, let root):
                try await sendStructure(id, root, conversation, isBusy: isBusy)
            case .block(let id, let position, let cid):
                let answer = try await read(isBusy: isBusy) { [self] in try files.readBlock(cid, buffers) }
                conversation.channel.send(item(id, position, answer))
            case .leaves(let id, let position, _, let indices) where isBusy:
                conversation.channel.send(header(id, position, .tooBusy, indices.upperBound - indices.lowerBound))
            case .leaves(let id, let position, let root, let indices):
                let largest = try await sendLeaves(id, position, root, indices, conversation)
                let before = known?.root == root ? known?.leafByteCount ?? 0 : 0
                known = largest > 0 ? (root, max(before, largest)) : known
            }
        }
        conversation.channel.finish()
    }

    /// What is read in one piece of work for the executor, unless it is a single larger leaf.
    private var pieceByteCount: Int { min(1 << 20, readAhead) }

    /// Sends the leaves of one step and returns the size of the largest.
    private func sendLeaves(
        _ id: UInt32, _ position: UInt64, _ root: CID, _ indices: Range<UInt64>, _ conversation: Conversation
    ) async throws -> Int {
        var largest = 0
        var rest = indices
        while !rest.isEmpty {
            let first = position + (rest.lowerBound - indices.lowerBound)
            let part = rest
            let answer = try await readLeaves(id, first, root, part)
            for bytes in answer.items { conversation.channel.send(bytes) }
            largest = max(largest, answer.largestLeaf)
            rest = rest.lowerBound + UInt64(answer.items.count)..<rest.upperBound
            if let absent = answer.absent {
                let more = conversation.session.withLock { $0.takeRest(of: id, absent.extent) }
                let missing = rest.upperBound - rest.lowerBound + more
                conversation.channel.send(header(id, first + UInt64(answer.items.count), absent.status, missing))
                return largest
            }
            guard await conversation.channel.waitForRoom(below: readAhead) else { return largest }
        }
        return largest
    }

    /// The share of one stream in what is read ahead.
    private var readAhead: Int {
        let streams = streamCount.withLock { max(1, $0) }
        return min(configuration.readAheadByteCount, configuration.totalReadAheadByteCount / streams)
    }

    // MARK: Reading

    private struct LeafAnswer: Sendable {
        var items: [Bytes] = []
        var largestLeaf = 0
        /// What goes for all further leaves of the range or the request.
        var absent: (status: BlockStream.Status, extent: BlockServerSession.Extent)?
    }

    /// Reads the first of these leaves: one at least, and no more than make a piece.
    private func readLeaves(
        _ id: UInt32, _ position: UInt64, _ root: CID, _ indices: Range<UInt64>
    ) async throws -> LeafAnswer {
        let limit = pieceByteCount
        do {
            return try await executor.run { [self] in
                var answer = LeafAnswer()
                var byteCount = 0
                for index in indices where byteCount < limit && answer.absent == nil {
                    let read = try files.readLeaf(index, of: root, buffers)
                    if case .absent(let status, let extent) = read {
                        answer.absent = (status, extent)
                    } else {
                        if case .found(_, let count) = read { answer.largestLeaf = max(answer.largestLeaf, count) }
                        answer.items.append(item(id, position + UInt64(answer.items.count), read))
                        byteCount += answer.items[answer.items.count - 1].count
                    }
                }
                return answer
            }
        } catch {
            guard isRefusal(error) else { throw error }
            return LeafAnswer(items: [header(id, position, .tooBusy, 1)])
        }
    }

    private func read(
        isBusy: Bool, _ body: @escaping @Sendable () throws -> BlockRead
    ) async throws -> BlockRead {
        guard !isBusy else { return .missing(.tooBusy) }
        do {
            return try await executor.run(body)
        } catch {
            guard isRefusal(error) else { throw error }
            return .missing(.tooBusy)
        }
    }

    /// Whether the executor had no room for the work; the client is told, and the stream goes on.
    private func isRefusal(_ error: any Error) -> Bool {
        !(error is ContentError || error is StorageError || error is CancellationError)
    }

    private func sendStructure(
        _ id: UInt32, _ root: CID, _ conversation: Conversation, isBusy: Bool
    ) async throws {
        defer { conversation.session.withLock { $0.finishStructure() } }
        let status = isBusy ? .tooBusy : try await executor.run { [self] in try files.structureStatus(of: root) }
        guard status == .found else {
            conversation.channel.send(header(id, 0, status, 0))
            return
        }
        var walk = StructureWalk(root: root)
        var position: UInt64 = 0
        while walk.next != nil {
            guard await conversation.channel.waitForRoom(below: readAhead) else { return }
            if conversation.session.withLock({ $0.isCancelled(structure: id) }) {
                conversation.channel.send(header(id, position, .cancelled, 0))
                return
            }
            let start = (walk, position)
            let part = try await executor.run { [self] in try readNodes(id, start.0, start.1) }
            for bytes in part.answer { conversation.channel.send(bytes) }
            walk = part.walk
            position = part.position
            guard part.isComplete else {
                conversation.channel.send(header(id, position, .notFound, 0))
                return
            }
        }
        conversation.channel.send(header(id, position, .end, 0))
    }

    private struct NodePart: Sendable {
        var answer: [Bytes] = []
        var walk: StructureWalk
        var position: UInt64
        var isComplete = true
    }

    /// Some of the next nodes of a structure.
    private func readNodes(_ id: UInt32, _ walk: StructureWalk, _ position: UInt64) throws -> NodePart {
        var part = NodePart(walk: walk, position: position)
        var byteCount = 0
        while let digest = part.walk.next, byteCount < 256 << 10 {
            guard let block = try files.node(digest) else {
                part.isComplete = false
                break
            }
            part.answer.append(header(id, part.position, .found, UInt64(block.count)))
            part.answer.append(block)
            part.position += 1
            byteCount += block.count
            part.walk.visited(block)
        }
        return part
    }

    // MARK: Writing

    /// The header and, right behind it in the same buffer, the block.
    private func item(_ id: UInt32, _ position: UInt64, _ read: BlockRead) -> Bytes {
        switch read {
        case .missing(let status), .absent(let status, _): return header(id, position, status, 1)
        case .found(let storage, let byteCount):
            let bytes = headerBytes(id, position, .found, UInt64(byteCount))
            let start = LeafBuffers.headRoom - bytes.count
            UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[start..<LeafBuffers.headRoom])
                .copyBytes(from: bytes)
            return storage.slice(start..<LeafBuffers.headRoom + byteCount)
        }
    }

    private func header(_ id: UInt32, _ position: UInt64, _ status: BlockStream.Status, _ count: UInt64) -> Bytes {
        Bytes(headerBytes(id, position, status, count))
    }

    private func headerBytes(
        _ id: UInt32, _ position: UInt64, _ status: BlockStream.Status, _ count: UInt64
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(BlockStream.ItemHeader.maximumByteCount)
        BlockStream.ItemHeader(requestID: id, position: position, status: status, count: count).append(to: &bytes)
        return bytes
    }
}
