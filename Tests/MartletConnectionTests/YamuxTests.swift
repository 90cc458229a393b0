import MartletCore
import MartletTestSupport
import Testing

@testable @_spi(Fuzzing) import MartletConnection

/// How a session opens, carries and closes streams, frame by frame.
@Suite struct YamuxTests {
    @Test func headerIsTwelveBytesInNetworkOrder() throws {
        let header = YamuxHeader(.windowUpdate, [.syn, .fin], stream: 0x0102_0304, length: 0x0506_0708)
        let bytes: [UInt8] = [0, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]
        #expect(YamuxBench.bytes(header) == bytes)
        #expect(try bytes.withUnsafeBytes { try YamuxHeader($0) } == header)
    }

    @Test func framesAreTheSameInAnyPieces() throws {
        var stream: [UInt8] = []
        stream += YamuxBench.bytes(.window(.syn, stream: 1, by: 5))
        stream += YamuxBench.bytes(.data(stream: 1, length: 3)) + [1, 2, 3]
        stream += YamuxBench.bytes(YamuxHeader(.ping, .syn, stream: 0, length: 9))
        stream += YamuxBench.bytes(.data([.syn, .fin], stream: 3, length: 40)) + [UInt8](repeating: 4, count: 40)
        stream += YamuxBench.bytes(.window(.rst, stream: 1))
        try DecoderVerifier.verify(
            stream,
            expecting: ["inbound 1", "1: 1", "1: 2", "1: 3", "inbound 3"]
                + [String](repeating: "3: 4", count: 40) + ["finished 3", "reset 1"]
        ) {
            let bench = YamuxBench()
            return { chunk in
                try bench.receive(Array(chunk))
                return bench.events().flatMap { event -> [String] in
                    switch event {
                    case .inboundStream(let id): return ["inbound \(id.rawValue)"]
                    case .data(let id, let bytes): return bytes.array.map { "\(id.rawValue): \($0)" }
                    case .remoteFinished(let id): return ["finished \(id.rawValue)"]
                    case .streamReset(let id): return ["reset \(id.rawValue)"]
                    default: return ["unexpected \(event)"]
                    }
                }
            }
        }
    }

    // MARK: Opening

    @Test func idsAreOddForTheDialerAndEvenForTheListener() throws {
        let dialer = YamuxBench(.dialer)
        #expect(try [dialer.open(), dialer.open()].map(\.rawValue) == [1, 3])
        let listener = YamuxBench(.listener)
        #expect(try [listener.open(), listener.open()].map(\.rawValue) == [2, 4])
    }

    @Test func firstDataCarriesSYN() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1, 2], on: id)
        #expect(bench.sent() == [.init(header: .data(.syn, stream: 1, length: 2), payload: [1, 2])])
        bench.session.send([3], on: id)
        #expect(bench.sent() == [.init(header: .data(stream: 1, length: 1), payload: [3])])
    }

    @Test func streamWithoutDataIsAnnouncedByAWindowUpdate() throws {
        let bench = try YamuxBench.started(.dialer)
        _ = try bench.open()
        #expect(bench.sent() == [.init(header: .window(.syn, stream: 1))])
        #expect(bench.sent() == [])
    }

    @Test func streamResetBeforeItWasAnnouncedIsNeverMentioned() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1], on: id)
        bench.session.reset(id)
        #expect(bench.sent() == [])
        #expect(bench.session.streamCount == 0)
    }

    @Test func openFinishAndDataFitOneFrame() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1], on: id)
        bench.session.send([2, 3], on: id)
        bench.session.finish(id)
        #expect(bench.sent() == [.init(header: .data([.syn, .fin], stream: 1, length: 3), payload: [1, 2, 3])])
    }

    @Test func answerCarriesACKOnce() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 1)
        #expect(bench.log() == ["inbound 1", "data 1 1"])
        #expect(bench.sent() == [], "the application has not taken the stream")
        let id = StreamID(rawValue: 1)
        bench.session.consumed(1, on: id, now: bench.now)
        bench.session.send([7], on: id)
        #expect(bench.sent() == [.init(header: .data(.ack, stream: 1, length: 1), payload: [7])])
        bench.session.send([8], on: id)
        #expect(bench.sent() == [.init(header: .data(stream: 1, length: 1), payload: [8])])
    }

    @Test func streamThatIsOnlyReadIsAcknowledgedByAWindowUpdate() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 1)
        bench.session.consumed(1, on: StreamID(rawValue: 1), now: bench.now)
        #expect(bench.sent() == [.init(header: .window(.ack, stream: 1))])
        bench.session.consumed(1, on: StreamID(rawValue: 1), now: bench.now)
        #expect(bench.sent() == [])
    }

    @Test func windowUpdateWithSYNEnlargesAtOnce() throws {
        let bench = try YamuxBench.started()
        try bench.receive(.windowUpdate, .syn, stream: 1, length: 100_000)
        let id = StreamID(rawValue: 1)
        bench.session.send(Bytes([UInt8](repeating: 0, count: 500_000)), on: id)
        let count = bench.sent().payloadByteCount
        #expect(count == 256 * 1024 + 100_000)
    }

    @Test func unacknowledgedStreamsAreLimited() throws {
        let bench = try YamuxBench.started(.dialer)
        for _ in 0..<256 { _ = try bench.open() }
        #expect(throws: StreamOpenError.tooManyUnacknowledged(limit: 256)) { try bench.open() }
        _ = bench.sent()
        // An acknowledgement on either kind of frame makes room, and a reset too.
        try bench.receive(.windowUpdate, .ack, stream: 1, length: 0)
        try bench.receiveData([1], .ack, stream: 3)
        try bench.receive(.windowUpdate, .rst, stream: 5, length: 0)
        for _ in 0..<3 { _ = try bench.open() }
        #expect(throws: StreamOpenError.tooManyUnacknowledged(limit: 256)) { try bench.open() }
        bench.session.reset(StreamID(rawValue: 7))
        _ = try bench.open()
        // A second acknowledgement of the same stream counts for nothing.
        try bench.receive(.windowUpdate, .ack, stream: 1, length: 0)
        #expect(throws: StreamOpenError.tooManyUnacknowledged(limit: 256)) { try bench.open() }
    }

    @Test func idsRunOut() throws {
        let bench = YamuxBench(.dialer)
        bench.session.nextID = UInt64(UInt32.max)
        #expect(try bench.open().rawValue == UInt64(UInt32.max))
        #expect(throws: StreamOpenError.idsExhausted) { try bench.open() }
    }

    // MARK: Closing

    @Test func windowUpdateAfterFINIsLegal() throws {
        // hostile-inputs 5: nim and js closed the session.
        let bench = try YamuxBench.started()
        try bench.receiveData([1], [.syn, .fin], stream: 1)
        #expect(bench.log() == ["inbound 1", "data 1 1", "finished 1"])
        try bench.receive(.windowUpdate, [], stream: 1, length: 1000)
        let id = StreamID(rawValue: 1)
        bench.session.send(Bytes([UInt8](repeating: 0, count: 300_000)), on: id)
        #expect(bench.sent().payloadByteCount == 256 * 1024 + 1000)
        #expect(bench.session.outcome == nil)
    }

    @Test func secondFINIsIgnored() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([], [.syn, .fin], stream: 1)
        try bench.receive(.windowUpdate, .fin, stream: 1, length: 0)
        #expect(bench.log() == ["inbound 1", "finished 1"])
    }

    @Test func dataAfterFINResetsTheStreamOnly() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([], [.syn, .fin], stream: 1)
        try bench.receiveData([1, 2], stream: 1)
        try bench.receiveData([3], .syn, stream: 3)
        #expect(bench.log() == ["inbound 1", "finished 1", "reset 1", "inbound 3", "data 3 1"])
        #expect(bench.sent() == [.init(header: .window(.rst, stream: 1))])
    }

    @Test func errorCodeOfAResetIsNotAWindow() throws {
        // go-yamux v5 puts an error code into Length (libp2p/specs PR 622).
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 1)
        try bench.receive(.windowUpdate, .rst, stream: 1, length: .max)
        #expect(bench.log() == ["inbound 1", "data 1 1", "reset 1"])
        #expect(bench.session.outcome == nil)
    }

    @Test func resetWithPayloadDoesNotDesynchronise() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 1)
        try bench.receiveData([9, 9, 9], .rst, stream: 1)
        try bench.receiveData([2], .syn, stream: 3)
        #expect(bench.log() == ["inbound 1", "data 1 1", "reset 1", "inbound 3", "data 3 1"])
    }

    @Test func streamResetInTheMiddleOfAFrameDeliversNoMore() throws {
        let bench = try YamuxBench.started()
        try bench.receive(YamuxBench.bytes(.data(.syn, stream: 1, length: 10)) + [1, 2, 3])
        #expect(bench.log() == ["inbound 1", "data 1 3"])
        bench.session.reset(StreamID(rawValue: 1))
        try bench.receive([4, 5, 6, 7, 8, 9, 10])
        try bench.receiveData([1], .syn, stream: 3)
        #expect(bench.log() == ["inbound 3", "data 3 1"])
    }

    @Test func framesForClosedStreamsAreIgnored() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1], on: id)
        _ = bench.sent()
        bench.session.reset(id)
        _ = bench.sent()
        try bench.receiveData([1, 2, 3], .ack, stream: 1)
        try bench.receive(.windowUpdate, [], stream: 1, length: 77)
        try bench.receive(.windowUpdate, .rst, stream: 1, length: 0)
        try bench.receiveData([1], stream: 2)
        #expect(bench.log() == [])
        #expect(bench.sent() == [])
        #expect(bench.session.outcome == nil)
    }

    @Test func streamsMayBeAnnouncedOutOfOrder() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 5)
        try bench.receiveData([1], .syn, stream: 1)
        #expect(bench.log() == ["inbound 5", "data 5 1", "inbound 1", "data 1 1"])
    }

    // MARK: Order of sending

    @Test func answersOvertakeData() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send(Bytes([UInt8](repeating: 1, count: 100_000)), on: id)
        try bench.receive(.ping, .syn, stream: 0, length: 0xABCD)
        let frames = bench.sent()
        #expect(frames.first?.header == YamuxHeader(.ping, .ack, stream: 0, length: 0xABCD))
        #expect(frames.dropFirst().payloadByteCount == 100_000)
    }

    @Test func framesCarrySixteenKibibytesAndSmallOnesShareARecord() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send(Bytes([UInt8](repeating: 1, count: 40_000)), on: id)
        var room = [UInt8](repeating: 0, count: YamuxSession.recordLimit)
        func record() -> Int { room.withUnsafeMutableBytes { bench.session.fill($0, now: bench.now) } }
        let sizes = (0..<4).map { _ in record() }
        #expect(sizes == [16_396, 16_396, 7_244, 0])
        for _ in 0..<10 { bench.session.send([1, 2, 3], on: try bench.open()) }
        let smallSizes = (0..<2).map { _ in record() }
        #expect(smallSizes == [150, 0])
    }

    @Test func oddPieceDoesNotHaveLargeOnesCut() throws {
        let bench = try YamuxBench.started(.dialer)
        let (first, second) = (try bench.open(), try bench.open())
        for id in [first, second] {
            bench.session.send(Bytes([UInt8](repeating: 1, count: 100)), on: id)
            for _ in 0..<2 { bench.session.send(Bytes([UInt8](repeating: 2, count: 16_384)), on: id) }
        }
        var memory = [UInt8](repeating: 0, count: YamuxSession.recordLimit)
        var detached: [Int] = []
        while true {
            var tail = Bytes()
            let count = memory.withUnsafeMutableBytes {
                bench.session.fill($0, mayCut: true, detaching: true, tail: &tail, now: bench.now)
            }
            if count == 0 { break }
            detached.append(tail.count)
        }
        // Every large piece is sent from where it is, and the streams take turns.
        #expect(detached == [16_384, 16_384, 16_384, 16_384])
        #expect(bench.session.queuedByteCount(on: first) == 0 && bench.session.queuedByteCount(on: second) == 0)
    }

    @Test func streamsOfOneClassTakeTurnsWhateverTheirPieces() throws {
        let bench = try YamuxBench.started(.dialer)
        let (odd, even) = (try bench.open(), try bench.open())
        for _ in 0..<12 { bench.session.send(Bytes([UInt8](repeating: 1, count: 13_000)), on: odd) }
        for _ in 0..<10 { bench.session.send(Bytes([UInt8](repeating: 2, count: 16_384)), on: even) }
        var memory = [UInt8](repeating: 0, count: YamuxSession.recordLimit)
        while bench.session.queuedByteCount(on: odd) > 0, bench.session.queuedByteCount(on: even) > 0 {
            var tail = Bytes()
            _ = memory.withUnsafeMutableBytes {
                bench.session.fill($0, mayCut: true, detaching: true, tail: &tail, now: bench.now)
            }
            let sent = (
                156_000 - bench.session.queuedByteCount(on: odd), 163_840 - bench.session.queuedByteCount(on: even)
            )
            #expect(abs(sent.0 - sent.1) <= 2 * 16_384)
        }
    }

    @Test func sendWindowIsNeverExceeded() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send(Bytes([UInt8](repeating: 1, count: 1_000_000)), on: id)
        bench.session.finish(id)
        #expect(bench.sent().payloadByteCount == 256 * 1024)
        #expect(!bench.session.hasPendingTransmit)
        try bench.receive(.windowUpdate, .ack, stream: 1, length: 1)
        #expect(bench.sent().map(\.payload.count) == [1])
        try bench.receive(.windowUpdate, [], stream: 1, length: 2_000_000)
        let frames = bench.sent()
        #expect(frames.last?.header.flags == .fin)
        #expect(frames.payloadByteCount == 1_000_000 - 256 * 1024 - 1)
        #expect(bench.session.queuedByteCount(on: id) == 0)
    }

    // MARK: Ending

    @Test func goAwayLetsOpenStreamsFinish() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1], on: id)
        _ = bench.sent()
        try bench.receive(.goAway, [], stream: 0, length: 0)
        #expect(throws: StreamOpenError.closing) { try bench.open() }
        #expect(bench.session.outcome == nil)
        bench.session.finish(id)
        _ = bench.sent()
        try bench.receive(.windowUpdate, .fin, stream: 1, length: 0)
        #expect(bench.log() == ["finished 1", "closed 1"])
        #expect(bench.session.outcome == .goneAway(.normal))
    }

    @Test(arguments: [(UInt32(0), GoAwayCode.normal), (1, .protocolError), (2, .internalError), (7, .other(7))])
    func goAwayEndsARestingSession(_ code: UInt32, _ meaning: GoAwayCode) throws {
        let bench = try YamuxBench.started()
        try bench.receive(.goAway, [], stream: 0, length: code)
        #expect(bench.session.outcome == .goneAway(meaning))
    }

    @Test func closeSendsWhatIsQueuedThenGoAway() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send([1, 2], on: id)
        bench.session.close(now: bench.now)
        #expect(throws: StreamOpenError.closing) { try bench.open() }
        try bench.receiveData([1], .syn, stream: 2)
        let frames = bench.sent()
        #expect(
            frames.map(\.header) == [
                .window(.rst, stream: 2), .data(.syn, stream: 1, length: 2),
                YamuxHeader(.goAway, [], stream: 0, length: 0),
            ])
        #expect(bench.session.outcome == .closedLocally)
    }

    @Test func closeDoesNotWaitForEver() throws {
        let bench = try YamuxBench.started(.dialer)
        let id = try bench.open()
        bench.session.send(Bytes([UInt8](repeating: 1, count: 1_000_000)), on: id)
        bench.session.close(now: bench.now)
        _ = bench.sent()
        #expect(bench.session.outcome == nil)
        #expect(bench.session.deadline == bench.now + .seconds(1))
        bench.session.handleTimeout(now: bench.now + .seconds(1))
        #expect(bench.session.outcome == .closedLocally)
        #expect(bench.sent().map(\.header.kind) == [.goAway])
    }
}
