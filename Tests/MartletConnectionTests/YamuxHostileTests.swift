import MartletCore
import TestVectors
import Testing

@testable @_spi(Fuzzing) import MartletConnection

/// What has crashed or drained other muxers: each is refused by name, and memory stays bounded.
@Suite struct YamuxHostileTests {
    private func refusal(_ body: () throws(YamuxError) -> Void) -> YamuxError? { failure(of: body) }

    /// hostile-inputs 1, CVE-2026-31814.
    @Test func windowUpdatesThatOverflowAreRefused() throws {
        let bench = try YamuxBench.started()
        try bench.receive(.windowUpdate, .syn, stream: 1, length: UInt32.max - 256 * 1024)
        #expect(
            refusal { () throws(YamuxError) in try bench.receive(.windowUpdate, [], stream: 1, length: 1) }
                == .windowOverflow(stream: 1))
        let other = try YamuxBench.started()
        #expect(
            refusal { () throws(YamuxError) in try other.receive(.windowUpdate, .syn, stream: 1, length: .max) }
                == .windowOverflow(stream: 1))
    }

    /// hostile-inputs 2, CVE-2026-32314.
    @Test func firstFrameLargerThanTheWindowIsRefused() throws {
        let bench = try YamuxBench.started()
        let window = 256 * 1024
        #expect(
            refusal { () throws(YamuxError) in
                try bench.receive(.data, .syn, stream: 1, length: UInt32(window + 1))
            } == .windowExceeded(stream: 1, length: UInt32(window + 1), window: window))
        // Exactly the window is right.
        let other = try YamuxBench.started()
        try other.receiveData([UInt8](repeating: 0, count: window), .syn, stream: 1)
    }

    /// hostile-inputs 3, GHSA-hmj8-5xmh-5573.
    @Test func frameClaimingFourGibibytesIsRefusedByItsHeader() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([1], .syn, stream: 1)
        #expect(
            refusal { () throws(YamuxError) in try bench.receive(.data, [], stream: 1, length: .max) }
                == .windowExceeded(stream: 1, length: .max, window: 256 * 1024 - 1))
        // Nor for a stream that does not exist.
        let other = try YamuxBench.started()
        #expect(
            refusal { () throws(YamuxError) in try other.receive(.data, [], stream: 1, length: .max) }
                == .tooMuchStrayData(limit: 256 * 1024))
    }

    @Test func windowIsNotGrantedForWhatIsAnnouncedButNotThere() throws {
        let bench = try YamuxBench.started()
        let id = StreamID(rawValue: 1)
        try bench.receive(YamuxBench.bytes(.data(.syn, stream: 1, length: 200_000)) + [1])
        bench.session.consumed(1, on: id, now: bench.now)
        let granted = bench.sent().map(\.header.length).reduce(0, +)
        #expect(granted == 0)
        #expect(
            refusal { () throws(YamuxError) in
                try bench.receive([UInt8](repeating: 0, count: 199_999))
                try bench.receive(.data, [], stream: 1, length: 70_000)
            } == .windowExceeded(stream: 1, length: 70_000, window: 256 * 1024 - 200_000))
    }

    @Test func consumingMoreThanWasReceivedGrantsNothingMore() throws {
        let bench = try YamuxBench.started()
        let id = StreamID(rawValue: 1)
        try bench.receiveData([UInt8](repeating: 0, count: 150_000), .syn, stream: 1)
        bench.session.consumed(.max, on: id, now: bench.now)
        bench.session.consumed(-5, on: id, now: bench.now)
        #expect(bench.sent().map(\.header.length) == [150_000])
    }

    /// hostile-inputs 4, CVE-2022-23492, 23486, 23487.
    @Test func endlessOpensAreRefusedOneByOneAndThenEndTheSession() throws {
        let bench = try YamuxBench.started { $0.maximumQueuedControlFrames = 100 }
        var id: UInt32 = 1
        for _ in 0..<1024 {
            try bench.receive(.windowUpdate, .syn, stream: id, length: 0)
            id += 2
        }
        #expect(bench.session.streamCount == 1024)
        for _ in 0..<100 {
            try bench.receive(.windowUpdate, .syn, stream: id, length: 0)
            id += 2
        }
        #expect(bench.session.streamCount == 1024)
        // Read by the peer, the refusals may go on for ever.
        let frames = bench.sent()
        #expect(frames.count == 100 && frames.allSatisfy { $0.header.flags == .rst })
        for _ in 0..<100 {
            try bench.receive(.windowUpdate, .syn, stream: id, length: 0)
            id += 2
        }
        // Unread, they end it.
        #expect(
            refusal { () throws(YamuxError) in try bench.receive(.windowUpdate, .syn, stream: id, length: 0) }
                == .tooManyQueuedControlFrames(limit: 100))
        // The streams that were taken count as the application's to end.
        bench.session.reset(StreamID(rawValue: 1))
        #expect(bench.session.streamCount == 1023)
    }

    @Test func opensAndResetsLeaveNothingBehind() throws {
        let bench = try YamuxBench.started()
        for round in 0..<10_000 {
            let id = UInt32(truncatingIfNeeded: 2 * round + 1)
            try bench.receiveData([1], .syn, stream: id)
            bench.session.consumed(1, on: StreamID(rawValue: UInt64(id)), now: bench.now)
            bench.session.send([1, 2, 3], on: StreamID(rawValue: UInt64(id)))
            try bench.receive(.windowUpdate, .rst, stream: id, length: 0)
            _ = bench.events()
        }
        // Nothing could be sent all that time, and nothing waits to be.
        #expect(bench.session.streamCount == 0)
        #expect(bench.session.queuedTotal == 0)
        #expect(!bench.session.hasPendingTransmit)
        #expect(bench.session.windowTotal == 0)
        #expect(bench.sent() == [])
    }

    /// hostile-inputs 5, nervosnetwork/tentacle PR 467.
    @Test func forgedPingAnswersCountForNothing() throws {
        let bench = YamuxBench()
        let ping = bench.sent()[0].header
        #expect(ping.kind == .ping && ping.flags == .syn)
        for value in [ping.length &+ 1, 0, .max] where value != ping.length {
            try bench.receive(.ping, .ack, stream: 0, length: value)
        }
        #expect(bench.log() == [])
        bench.now = bench.now + .milliseconds(30)
        try bench.receive(.ping, .ack, stream: 0, length: ping.length)
        #expect(bench.session.roundTrip == .milliseconds(30))
        #expect(bench.log() == ["round trip"])
        // And the same answer only once.
        try bench.receive(.ping, .ack, stream: 0, length: ping.length)
        #expect(bench.log() == [])
    }

    @Test func pingFloodEndsTheSession() throws {
        let bench = try YamuxBench.started()
        let limit = bench.session.configuration.maximumQueuedControlFrames
        for value in 0..<limit { try bench.receive(.ping, .syn, stream: 0, length: UInt32(value)) }
        #expect(
            refusal { () throws(YamuxError) in try bench.receive(.ping, .syn, stream: 0, length: 0) }
                == .tooManyQueuedControlFrames(limit: limit))
    }

    @Test func strayDataIsTakenOnlyAsFarAsItWasAllowed() throws {
        let bench = try YamuxBench.started()
        let half = [UInt8](repeating: 0, count: 128 * 1024)
        for id in [UInt32(1), 3] {
            try bench.receiveData(half, .syn, stream: id)
            bench.session.reset(StreamID(rawValue: UInt64(id)))
        }
        // 128 KiB of each were under way, and 256 KiB are free.
        for _ in 0..<4 { try bench.receiveData(half, stream: 1) }
        #expect(
            refusal { () throws(YamuxError) in try bench.receiveData([1], stream: 3) }
                == .tooMuchStrayData(limit: 0))
    }

    @Test func framesThatCannotBeAreRefusedByName() throws {
        let cases: [([UInt8], YamuxError)] = [
            ([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], .unknownVersion(1)),
            ([0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], .unknownFrameType(4)),
            (YamuxBench.bytes(.data(.syn, stream: 0, length: 0)), .wrongStreamID(0)),
            (YamuxBench.bytes(.window(stream: 0, by: 1)), .wrongStreamID(0)),
            (YamuxBench.bytes(.data(.syn, stream: 2, length: 0)), .idOfOtherSide(2)),
            (YamuxBench.bytes(.data(stream: 2, length: 0)), .neverOpened(2)),
            (YamuxBench.bytes(.window(stream: 2, by: 1)), .neverOpened(2)),
        ]
        for (bytes, expected) in cases {
            let bench = try YamuxBench.started()
            #expect(refusal { () throws(YamuxError) in try bench.receive(bytes) } == expected)
        }
        let bench = try YamuxBench.started()
        try bench.receiveData([], .syn, stream: 1)
        #expect(
            refusal { () throws(YamuxError) in try bench.receiveData([], .syn, stream: 1) } == .alreadyOpen(1))
    }

    @Test func unknownFlagsAreIgnored() throws {
        let bench = try YamuxBench.started()
        try bench.receive([0, 0, 0xFF, 0xF1, 0, 0, 0, 1, 0, 0, 0, 1, 5])
        #expect(bench.log() == ["inbound 1", "data 1 1"])
    }

    @Test func smallMessagesDoNotHoldTheBlockTheyCameIn() throws {
        let bench = try YamuxBench.started()
        var bytes = YamuxBench.bytes(.window(.syn, stream: 1))
        for _ in 0..<100 { bytes += YamuxBench.bytes(.data(stream: 1, length: 50)) + [UInt8](repeating: 1, count: 50) }
        bytes += YamuxBench.bytes(.data(stream: 1, length: 20_000)) + [UInt8](repeating: 2, count: 20_000)
        try bench.receive(bytes)
        for case .data(_, let payload) in bench.events() {
            if payload.count == 50 { #expect(payload.retainedByteCount <= 4096) }
            if payload.count == 20_000 { #expect(payload.retainedByteCount == bytes.count, "a large one is a slice") }
        }
    }
}
