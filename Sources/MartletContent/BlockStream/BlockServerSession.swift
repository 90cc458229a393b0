public import MartletCore

/// The server's side of one `/martlet/blocks/1` stream as a machine: requests go in, what to send next comes out.
///
/// Requests are answered one after the other in the order in which they came. The session holds requests, never content.
public struct BlockServerSession: Sendable {
    /// What to send next.
    public enum Step: Hashable, Sendable {
        /// These leaves, the first of which is at `position` of its request.
        case leaves(id: UInt32, position: UInt64, root: CID, indices: Range<UInt64>)
        case block(id: UInt32, position: UInt64, cid: CID)
        /// The inner nodes below `root`. While they are sent, `isCancelled` tells when to stop; then `finishStructure`.
        case structure(id: UInt32, root: CID)
        /// The header that ends a cancelled request.
        case cancelled(id: UInt32, position: UInt64, count: UInt64)
    }

    private struct Pending: Sendable {
        var request: BlockStream.Request
        /// Blocks handed out so far, and those left.
        var position: UInt64 = 0
        var left: UInt64
        /// For leaves, the range that is being handed out.
        var rangeIndex = 0
        /// Some of that range has been handed out, but not all.
        var isInsideRange = false
        var isCancelled = false
    }

    public let limits: BlockStream.Limits
    private var reader: MessageReader
    // Few and bounded by the limits, so a plain array searched from the front.
    private var pending: [Pending] = []
    private var itemCount: UInt64 = 0
    /// The structure that the driver is sending, and whether it was cancelled meanwhile.
    private var structure: (id: UInt32, isCancelled: Bool)?

    public init(limits: BlockStream.Limits = BlockStream.Limits()) {
        self.limits = limits
        reader = MessageReader(limit: limits.requestByteCount)
    }

    /// Whether everything that was asked for has been handed out.
    public var isIdle: Bool { pending.isEmpty && structure == nil }

    /// Takes bytes of the stream.
    public mutating func received(_ bytes: Bytes) throws(BlockStreamError) {
        // The reader is taken out while it calls back into this machine.
        var reader = self.reader
        self.reader = MessageReader(limit: 0)
        try reader.append(bytes) { (body) throws(BlockStreamError) in
            try accept(BlockStream.Request(body: body, limits: limits))
        }
        self.reader = reader
    }

    /// The client has finished its side.
    public func receivedEnd() throws(BlockStreamError) {
        guard reader.isAtBoundary else { throw .endedEarly }
    }

    private mutating func accept(_ request: BlockStream.Request) throws(BlockStreamError) {
        let id = request.id
        if case .cancel = request {
            cancel(id)
            return
        }
        guard pending.count + (structure == nil ? 0 : 1) < limits.outstandingRequests else {
            throw .tooManyRequests(limit: limits.outstandingRequests)
        }
        guard structure?.id != id, !pending.contains(where: { $0.request.id == id }) else {
            throw .duplicateRequest(id)
        }
        var count: UInt64 = 0
        switch request {
        case .structure: count = 1
        case .leaves(_, _, let ranges):
            for range in ranges {
                let (sum, overflow) = count.addingReportingOverflow(range.upperBound - range.lowerBound)
                guard !overflow, sum <= UInt64(limits.outstandingItems) else {
                    throw .tooManyItems(limit: limits.outstandingItems)
                }
                count = sum
            }
        case .blocks(_, let cids): count = UInt64(cids.count)
        case .cancel: return
        }
        guard count > 0 else { throw .emptyRequest }
        guard itemCount + count <= UInt64(limits.outstandingItems) else {
            throw .tooManyItems(limit: limits.outstandingItems)
        }
        itemCount += count
        pending.append(Pending(request: request, left: count))
    }

    /// A request that is not known has been answered already; the cancellation crossed the answer.
    private mutating func cancel(_ id: UInt32) {
        if structure?.id == id { structure?.isCancelled = true }
        if let index = pending.firstIndex(where: { $0.request.id == id }) { pending[index].isCancelled = true }
    }

    /// The file whose leaves come next, when leaves do.
    public var nextRoot: CID? {
        guard let head = pending.first, case .leaves(_, let root, _) = head.request else { return nil }
        return root
    }

    /// What to send next, at most `maximum` blocks of one request; nil when nothing is asked for.
    public mutating func next(maximum: Int) -> Step? {
        guard structure == nil, !pending.isEmpty else { return nil }
        let head = pending[0]
        if head.isCancelled {
            drop()
            return .cancelled(id: head.request.id, position: head.position, count: head.left)
        }
        switch head.request {
        case .structure(let id, let root):
            drop()
            structure = (id, false)
            return .structure(id: id, root: root)
        case .blocks(let id, let cids):
            defer { advance(1) }
            return .block(id: id, position: head.position, cid: cids[Int(head.position)])
        case .leaves(let id, let root, let ranges):
            let range = ranges[head.rangeIndex]
            let count = min(UInt64(max(1, maximum)), range.upperBound - range.lowerBound)
            let taken = range.lowerBound..<range.lowerBound + count
            var rest = ranges
            rest[head.rangeIndex] = taken.upperBound..<range.upperBound
            pending[0].isInsideRange = taken.upperBound < range.upperBound
            if !pending[0].isInsideRange { pending[0].rangeIndex += 1 }
            pending[0].request = .leaves(id: id, root: root, ranges: rest)
            advance(count)
            return .leaves(id: id, position: head.position, root: root, indices: taken)
        case .cancel:
            drop()
            return next(maximum: maximum)
        }
    }

    /// What a driver learns of leaves that it was given: none of their kind will be found.
    public enum Extent: Sendable {
        /// The rest of the range lies beyond the file.
        case range
        /// The file itself cannot be had.
        case request
    }

    /// Takes out what is left of the request that was handed out last, or of its range, and returns how many leaves that
    /// are, so that one header answers for all.
    public mutating func takeRest(of id: UInt32, _ extent: Extent) -> UInt64 {
        guard let head = pending.first, head.request.id == id, case .leaves(_, let root, var ranges) = head.request
        else { return 0 }
        switch extent {
        case .request:
            drop()
            return head.left
        case .range:
            // A range that was handed out whole has been passed already.
            let range = ranges[head.rangeIndex]
            guard head.isInsideRange else { return 0 }
            ranges[head.rangeIndex] = range.upperBound..<range.upperBound
            pending[0].request = .leaves(id: id, root: root, ranges: ranges)
            pending[0].rangeIndex += 1
            pending[0].isInsideRange = false
            advance(range.upperBound - range.lowerBound)
            return range.upperBound - range.lowerBound
        }
    }

    /// Whether the client cancelled the structure that is being sent.
    public func isCancelled(structure id: UInt32) -> Bool { structure?.id == id && structure?.isCancelled == true }

    /// The structure was sent, or given up.
    public mutating func finishStructure() { structure = nil }

    private mutating func advance(_ count: UInt64) {
        pending[0].position += count
        pending[0].left -= count
        itemCount -= count
        if pending[0].left == 0 { pending.removeFirst() }
    }

    private mutating func drop() {
        itemCount -= pending[0].left
        pending.removeFirst()
    }
}
