import DequeModule
public import MartletCore

/// The client's side of one `/martlet/blocks/1` stream as a machine: requests are made, bytes go in, blocks come out.
///
/// Nothing is allocated for what the server merely announces: a block's size was known or bounded when it was asked for,
/// and memory is held only for bytes that came. Whether a block is the right one is for the caller to check.
public struct BlockClientSession: Sendable {
    /// A leaf to ask for.
    public struct LeafRequest: Hashable, Sendable {
        public var index: UInt64
        /// As the graph says; nil when only the limit is known.
        public var byteCount: UInt32?

        public init(index: UInt64, byteCount: UInt32?) {
            self.index = index
            self.byteCount = byteCount
        }
    }

    public enum Event: Sendable {
        /// The next inner node of a structure.
        case node(id: UInt32, LeafPayload)
        /// The structure is complete (`end`) or will not come.
        case structureEnded(id: UInt32, BlockStream.Status)
        case leaf(id: UInt32, index: UInt64, LeafPayload)
        /// Leaves that will not come, by their indices in the file.
        case unavailable(id: UInt32, indices: [UInt64], BlockStream.Status)
    }

    private enum Content: Sendable {
        case structure(limit: Int)
        case leaves([LeafRequest])
    }

    private struct Outstanding: Sendable {
        let id: UInt32
        let content: Content
        var position: UInt64 = 0
        var isCancelled = false
    }

    private enum State: Sendable {
        case header
        /// Bytes of a block that are still to come.
        case payload(BlockStream.ItemHeader, left: Int)
    }

    public let limits: BlockStream.Limits
    // Bounded by the limits; the head is the one being answered.
    private var outstanding: [Outstanding] = []
    private var nextID: UInt32 = 1
    private var state = State.header
    private var headerBytes: [UInt8] = []
    private var collector = PayloadCollector(expectedByteCount: 0)
    private var events: Deque<Event> = []

    public init(limits: BlockStream.Limits = BlockStream.Limits()) {
        self.limits = limits
        headerBytes.reserveCapacity(BlockStream.ItemHeader.maximumByteCount)
    }

    // MARK: Asking

    /// Whether another request may be made now.
    public var canRequest: Bool { outstanding.count < limits.outstandingRequests }

    /// Asks for the inner nodes below `root`, each at most `nodeByteCount` bytes.
    public mutating func requestStructure(root: CID, nodeByteCount: Int) -> (id: UInt32, message: Bytes) {
        let id = newID()
        outstanding.append(
            Outstanding(id: id, content: .structure(limit: min(nodeByteCount, limits.blockByteCount))))
        return (id, BlockStream.Request.structure(id: id, root: root).encoded)
    }

    /// Asks for leaves of the file `root`; at most `limits.rangesPerRequest` runs of consecutive indices.
    public mutating func requestLeaves(root: CID, _ leaves: [LeafRequest]) -> (id: UInt32, message: Bytes) {
        let id = newID()
        outstanding.append(Outstanding(id: id, content: .leaves(leaves)))
        var ranges: [Range<UInt64>] = []
        for leaf in leaves {
            if let last = ranges.last, last.upperBound == leaf.index {
                ranges[ranges.count - 1] = last.lowerBound..<leaf.index + 1
            } else {
                ranges.append(leaf.index..<leaf.index + 1)
            }
        }
        return (id, BlockStream.Request.leaves(id: id, root: root, ranges: ranges).encoded)
    }

    /// Asks the server to forget what is left of a request. What still comes of it is dropped. Nil when it is over.
    public mutating func cancel(_ id: UInt32) -> Bytes? {
        guard let index = outstanding.firstIndex(where: { $0.id == id && !$0.isCancelled }) else { return nil }
        outstanding[index].isCancelled = true
        return BlockStream.Request.cancel(id: id).encoded
    }

    /// Whether something is still to come of a request.
    public func isOutstanding(_ id: UInt32) -> Bool { outstanding.contains { $0.id == id } }

    /// The leaves of a request that are still to come, by their indices.
    func unansweredLeaves(of id: UInt32) -> [UInt64] {
        guard let request = outstanding.first(where: { $0.id == id }), case .leaves(let leaves) = request.content else {
            return []
        }
        return leaves[Int(request.position)...].map(\.index)
    }

    private mutating func newID() -> UInt32 {
        precondition(canRequest, "\(outstanding.count) requests are outstanding")
        repeat {
            nextID = nextID == .max ? 1 : nextID + 1
        } while outstanding.contains { $0.id == nextID }
        return nextID
    }

    // MARK: Receiving

    /// What the last bytes brought. Drain it after every `received`.
    public mutating func nextEvent() -> Event? { events.popFirst() }

    /// Bytes of an unfinished block.
    public var partialByteCount: Int { collector.byteCount }

    /// The server has finished its side.
    public func receivedEnd() throws(BlockStreamError) {
        guard case .header = state, headerBytes.isEmpty, outstanding.isEmpty else { throw .endedEarly }
    }

    /// Takes bytes of the stream.
    public mutating func received(_ bytes: Bytes) throws(BlockStreamError) {
        var rest = bytes
        while !rest.isEmpty {
            switch state {
            case .header:
                guard let header = try takeHeader(&rest) else { return }
                try begin(header)
            case .payload(let header, let left):
                let piece = rest.takeFirst(min(left, rest.count))
                if !isCancelled(header.requestID) { collector.append(piece) }
                if piece.count == left {
                    state = .header
                    complete(header)
                } else {
                    state = .payload(header, left: left - piece.count)
                }
            }
        }
    }

    private mutating func takeHeader(_ rest: inout Bytes) throws(BlockStreamError) -> BlockStream.ItemHeader? {
        if headerBytes.isEmpty, let found = try BlockStream.ItemHeader.decode(rest.span) {
            rest.removeFirst(found.byteCount)
            return found.header
        }
        // The header is split over two reads; byte by byte until it is complete.
        while !rest.isEmpty {
            headerBytes.append(rest[0])
            rest.removeFirst(1)
            if let found = try BlockStream.ItemHeader.decode(headerBytes.span.bytes) {
                headerBytes.removeAll(keepingCapacity: true)
                return found.header
            }
        }
        return nil
    }

    private mutating func begin(_ header: BlockStream.ItemHeader) throws(BlockStreamError) {
        guard let index = outstanding.firstIndex(where: { $0.id == header.requestID }) else {
            throw .unknownRequest(header.requestID)
        }
        let request = outstanding[index]
        guard header.position == request.position else {
            throw .wrongPosition(expected: request.position, got: header.position)
        }
        switch (request.content, header.status) {
        case (.structure(let limit), .found):
            guard header.count > 0, header.count <= UInt64(limit) else {
                throw .wrongLength(expected: UInt64(limit), got: header.count)
            }
            outstanding[index].position += 1
            startPayload(header)
        case (.leaves(let leaves), .found):
            guard header.position < UInt64(leaves.count) else { throw .tooManyAnswers }
            let leaf = leaves[Int(header.position)]
            if let size = leaf.byteCount {
                guard header.count == UInt64(size) else {
                    throw .wrongLength(expected: UInt64(size), got: header.count)
                }
            } else if header.count > UInt64(limits.blockByteCount) {
                throw .wrongLength(expected: UInt64(limits.blockByteCount), got: header.count)
            }
            outstanding[index].position += 1
            startPayload(header)
        case (.structure, let status):
            // Whatever it is, nothing follows; there is no telling how many nodes were left.
            guard status != .cancelled || request.isCancelled else { throw .wrongStatus(status) }
            outstanding.remove(at: index)
            events.append(.structureEnded(id: header.requestID, status))
        case (.leaves, .end):
            throw .wrongStatus(.end)
        case (.leaves(let leaves), let status):
            guard status != .cancelled || request.isCancelled else { throw .wrongStatus(status) }
            let left = UInt64(leaves.count) - request.position
            guard header.count > 0, header.count <= left else { throw .tooManyAnswers }
            let start = Int(request.position)
            outstanding[index].position += header.count
            if !request.isCancelled {
                let indices = leaves[start..<start + Int(header.count)].map(\.index)
                events.append(.unavailable(id: header.requestID, indices: indices, status))
            }
            removeIfAnswered(index)
        }
    }

    private mutating func startPayload(_ header: BlockStream.ItemHeader) {
        collector = PayloadCollector(expectedByteCount: Int(header.count))
        if header.count == 0 {
            complete(header)
        } else {
            state = .payload(header, left: Int(header.count))
        }
    }

    private mutating func complete(_ header: BlockStream.ItemHeader) {
        guard let index = outstanding.firstIndex(where: { $0.id == header.requestID }) else { return }
        let payload = collector.finish()
        collector = PayloadCollector(expectedByteCount: 0)
        let request = outstanding[index]
        if !request.isCancelled {
            switch request.content {
            case .structure: events.append(.node(id: request.id, payload))
            case .leaves(let leaves):
                events.append(.leaf(id: request.id, index: leaves[Int(header.position)].index, payload))
            }
        }
        removeIfAnswered(index)
    }

    private mutating func removeIfAnswered(_ index: Int) {
        guard case .leaves(let leaves) = outstanding[index].content,
            outstanding[index].position == UInt64(leaves.count)
        else { return }
        outstanding.remove(at: index)
    }

    private func isCancelled(_ id: UInt32) -> Bool {
        outstanding.first { $0.id == id }?.isCancelled ?? true
    }
}
