import MartletCore
import MartletIdentity
import Testing

@testable import MartletContent

@Suite struct BlockStreamTests {
    typealias Request = BlockStream.Request
    let root = CID(codec: .dagPB, multihash: Multihash(SHA256.hash([1])))
    let leaf = CID(codec: .raw, multihash: Multihash(SHA256.hash([2])))

    func header(_ id: UInt32, _ position: UInt64, _ status: BlockStream.Status, _ count: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        BlockStream.ItemHeader(requestID: id, position: position, status: status, count: count).append(to: &bytes)
        return bytes
    }

    // MARK: Server side

    @Test func requestsAreReadByteByByte() throws {
        let requests: [Request] = [
            .structure(id: 1, root: root), .leaves(id: 2, root: root, ranges: [5..<8, 1..<2]),
            .blocks(id: 3, cids: [leaf, root]),
        ]
        var session = BlockServerSession()
        for request in requests {
            for byte in request.encoded.array { try session.received([byte]) }
        }
        #expect(session.next(maximum: 2) == .structure(id: 1, root: root))
        #expect(session.next(maximum: 2) == nil)
        session.finishStructure()
        #expect(session.next(maximum: 2) == .leaves(id: 2, position: 0, root: root, indices: 5..<7))
        #expect(session.next(maximum: 2) == .leaves(id: 2, position: 2, root: root, indices: 7..<8))
        #expect(session.next(maximum: 2) == .leaves(id: 2, position: 3, root: root, indices: 1..<2))
        #expect(session.next(maximum: 2) == .block(id: 3, position: 0, cid: leaf))
        #expect(session.next(maximum: 2) == .block(id: 3, position: 1, cid: root))
        #expect(session.isIdle)
        try session.receivedEnd()
    }

    @Test func aCancelledRequestEndsWhereItIs() throws {
        var session = BlockServerSession()
        try session.received(Request.leaves(id: 7, root: root, ranges: [0..<100]).encoded)
        try session.received(Request.structure(id: 8, root: root).encoded)
        _ = session.next(maximum: 10)
        try session.received(Request.cancel(id: 7).encoded)
        try session.received(Request.cancel(id: 99).encoded)
        #expect(session.next(maximum: 10) == .cancelled(id: 7, position: 10, count: 90))
        #expect(session.next(maximum: 10) == .structure(id: 8, root: root))
        try session.received(Request.cancel(id: 8).encoded)
        #expect(session.isCancelled(structure: 8))
    }

    func refuses(_ bytes: Bytes, limits: BlockStream.Limits = .init(), _ expected: (BlockStreamError) -> Bool) {
        var session = BlockServerSession(limits: limits)
        let error = #expect(throws: BlockStreamError.self) { try session.received(bytes) }
        #expect(error.map(expected) == true, "\(String(describing: error))")
    }

    @Test func absurdRequestsAreRefused() {
        let maximum = UInt64(Int64.max)
        refuses(Request.leaves(id: 1, root: root, ranges: [0..<maximum]).encoded) {
            $0 == .tooManyItems(limit: 1 << 20)
        }
        refuses(Request.leaves(id: 1, root: root, ranges: [maximum..<maximum + maximum]).encoded) {
            $0 == .tooManyItems(limit: 1 << 20)
        }
        let many = (0..<300 as Range<UInt64>).map { $0 * 2..<$0 * 2 + 1 }
        refuses(Request.leaves(id: 1, root: root, ranges: many).encoded) {
            $0 == .malformed(.tooLong(field: "ranges", length: 300, limit: 256))
        }
        refuses(Request.leaves(id: 1, root: root, ranges: []).encoded) { $0 == .emptyRequest }
        refuses(Request.blocks(id: 1, cids: []).encoded) { $0 == .emptyRequest }
        refuses(Request.blocks(id: 1, cids: [CID](repeating: leaf, count: 513)).encoded) {
            $0 == .malformed(.tooLong(field: "blocks", length: 513, limit: 512))
        }
        // A message that says it is 2^62 bytes long, and one of 64 KiB + 1.
        refuses(Bytes(Varint.encode(1 << 62))) { $0 == .requestTooLong(1 << 62, limit: 65536) }
        refuses(Bytes(Varint.encode(65537))) { $0 == .requestTooLong(65537, limit: 65536) }
        refuses(Bytes([UInt8](repeating: 0xFF, count: 20))) { $0 == .malformed(.varintTooLong) }
        refuses([0]) { if case .malformed = $0 { true } else { false } }
        refuses([2, 9, 1]) { if case .malformed = $0 { true } else { false } }
        var trailing = Request.cancel(id: 1).encoded.array
        trailing[0] += 1
        refuses(Bytes(trailing + [5])) { $0 == .malformed(.trailingBytes(1)) }
        let huge = CID(
            codec: .raw, multihash: try! Multihash(code: .identity, digest: [UInt8](repeating: 1, count: 128)))
        refuses(Request.blocks(id: 1, cids: [huge]).encoded) { if case .malformed = $0 { true } else { false } }
    }

    @Test func requestsAndBlocksAskedForAreLimited() throws {
        var limits = BlockStream.Limits()
        limits.outstandingRequests = 3
        limits.outstandingItems = 10
        var session = BlockServerSession(limits: limits)
        for id in 1...3 as ClosedRange<UInt32> { try session.received(Request.blocks(id: id, cids: [leaf]).encoded) }
        #expect(throws: BlockStreamError.tooManyRequests(limit: 3)) {
            try session.received(Request.blocks(id: 4, cids: [leaf]).encoded)
        }
        session = BlockServerSession(limits: limits)
        try session.received(Request.leaves(id: 1, root: root, ranges: [0..<9]).encoded)
        #expect(throws: BlockStreamError.tooManyItems(limit: 10)) {
            try session.received(Request.blocks(id: 2, cids: [leaf, leaf]).encoded)
        }
        session = BlockServerSession(limits: limits)
        try session.received(Request.blocks(id: 1, cids: [leaf]).encoded)
        #expect(throws: BlockStreamError.duplicateRequest(1)) {
            try session.received(Request.structure(id: 1, root: root).encoded)
        }
        // Answered requests make room again, whatever their number.
        session = BlockServerSession(limits: limits)
        for id in 1...100 as ClosedRange<UInt32> {
            try session.received(Request.leaves(id: id, root: root, ranges: [0..<9]).encoded)
            while session.next(maximum: 4) != nil {}
        }
    }

    // MARK: Client side

    func leaves(_ range: Range<UInt64>, size: UInt32? = 3) -> [BlockClientSession.LeafRequest] {
        range.map { BlockClientSession.LeafRequest(index: $0, byteCount: size) }
    }

    @Test(arguments: [1, 2, 5, 1000])
    func leavesComeWholeHoweverTheyAreCut(piece: Int) throws {
        var session = BlockClientSession()
        let (id, message) = session.requestLeaves(root: root, leaves(0..<2) + leaves(7..<9))
        #expect(message == Request.leaves(id: id, root: root, ranges: [0..<2, 7..<9]).encoded)
        let answer =
            header(id, 0, .found, 3) + [1, 2, 3] + header(id, 1, .notFound, 2) + header(id, 3, .found, 3) + [4, 5, 6]
        var seen: [String] = []
        for start in stride(from: 0, to: answer.count, by: piece) {
            try session.received(Bytes(Array(answer[start..<min(start + piece, answer.count)])))
            while let event = session.nextEvent() {
                switch event {
                case .leaf(_, let index, let payload): seen.append("\(index) \(payload.joined.array)")
                case .unavailable(_, let indices, let status): seen.append("\(indices) \(status)")
                case .node, .structureEnded: Issue.record("unexpected")
                }
            }
        }
        #expect(seen == ["0 [1, 2, 3]", "[1, 7] notFound", "8 [4, 5, 6]"])
        try session.receivedEnd()
    }

    func clientRefuses(_ answer: (UInt32) -> [UInt8], _ expected: BlockStreamError) {
        var session = BlockClientSession()
        let (id, _) = session.requestLeaves(root: root, leaves(0..<3))
        #expect(throws: expected) { try session.received(Bytes(answer(id))) }
    }

    @Test func answersThatWereNotAskedForAreRefused() {
        clientRefuses({ header($0 + 1, 0, .found, 3) }, .unknownRequest(3))
        clientRefuses({ header($0, 1, .found, 3) }, .wrongPosition(expected: 0, got: 1))
        clientRefuses({ header($0, 0, .found, 4) }, .wrongLength(expected: 3, got: 4))
        clientRefuses({ header($0, 0, .found, 0) }, .wrongLength(expected: 3, got: 0))
        clientRefuses({ header($0, 0, .found, 1 << 62) }, .wrongLength(expected: 3, got: 1 << 62))
        clientRefuses({ header($0, 0, .notFound, 4) }, .tooManyAnswers)
        clientRefuses({ header($0, 0, .notFound, 0) }, .tooManyAnswers)
        clientRefuses({ header($0, 0, .end, 0) }, .wrongStatus(.end))
        clientRefuses({ header($0, 0, .cancelled, 3) }, .wrongStatus(.cancelled))
        clientRefuses({ header($0, 0, .notFound, 3) + header($0, 3, .found, 3) }, .unknownRequest(2))
        clientRefuses({ _ in [1, 0, 9] }, .unknownStatus(9))
        clientRefuses({ _ in [0x80, 0x00] }, .malformed(.varintNotMinimal))
    }

    @Test func aBlockOfUnknownSizeIsLimited() throws {
        var session = BlockClientSession()
        let (id, _) = session.requestLeaves(root: root, leaves(0..<1, size: nil))
        #expect(throws: BlockStreamError.wrongLength(expected: 2 << 20, got: (2 << 20) + 1)) {
            try session.received(Bytes(header(id, 0, .found, (2 << 20) + 1)))
        }
    }

    @Test func nodesOfAStructureAreLimited() throws {
        var session = BlockClientSession()
        let (id, _) = session.requestStructure(root: root, nodeByteCount: 100)
        try session.received(Bytes(header(id, 0, .found, 2) + [1, 2]))
        #expect(throws: BlockStreamError.wrongLength(expected: 100, got: 101)) {
            try session.received(Bytes(header(id, 1, .found, 101)))
        }
    }

    @Test func whatComesAfterACancellationIsDropped() throws {
        var session = BlockClientSession()
        let (id, _) = session.requestLeaves(root: root, leaves(0..<4))
        try session.received(Bytes(header(id, 0, .found, 3) + [1]))
        #expect(session.cancel(id) == Request.cancel(id: id).encoded)
        #expect(session.cancel(id) == nil)
        try session.received(Bytes([2, 3] + header(id, 1, .found, 3) + [4, 5, 6] + header(id, 2, .cancelled, 2)))
        #expect(session.nextEvent() == nil)
        try session.receivedEnd()
    }

    @Test func anEndInTheMiddleIsNoticed() throws {
        var session = BlockClientSession()
        let (id, _) = session.requestLeaves(root: root, leaves(0..<1))
        #expect(throws: BlockStreamError.endedEarly) { try session.receivedEnd() }
        try session.received(Bytes(header(id, 0, .found, 3) + [1]))
        #expect(throws: BlockStreamError.endedEarly) { try session.receivedEnd() }
        try session.received([2, 3])
        try session.receivedEnd()
        try session.received([0x81])
        #expect(throws: BlockStreamError.endedEarly) { try session.receivedEnd() }
    }

    @Test func tinySlicesAreCopiedTogether() throws {
        var random = RandomSource(seed: 3)
        let content = random.bytes(200_000)
        var collector = PayloadCollector(expectedByteCount: content.count)
        var offset = 0
        while offset < content.count {
            // Mostly single bytes, now and then a large piece.
            let size = min(random.next() % 50 == 0 ? 5000 : 1, content.count - offset)
            collector.append(Bytes(Array(content[offset..<offset + size])))
            offset += size
        }
        let payload = collector.finish()
        #expect(payload.joined.array == content)
        #expect(payload.digest == SHA256.hash(content))
        #expect(payload.slices.count < 200)
        #expect(payload.slices.reduce(0) { $0 + $1.retainedByteCount } < 20 * content.count)
    }
}
