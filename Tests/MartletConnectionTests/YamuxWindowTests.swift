import MartletCore
import MartletTestSupport
import Testing

@testable @_spi(Fuzzing) import MartletConnection

/// Receive windows: granted on reading, grown to what the path carries, bounded by stream, connection and node.
@Suite struct YamuxWindowTests {
    private let window = 256 * 1024
    private let id = StreamID(rawValue: 1)

    /// Receives half of the stream's window and takes it `after` that.
    private func halfWindow(_ bench: YamuxBench, limit: Int, after: Duration, stream: UInt32 = 1) throws -> [UInt32] {
        try bench.receiveData([UInt8](repeating: 0, count: limit / 2), stream: stream)
        bench.now = bench.now + after
        bench.session.consumed(limit / 2, on: StreamID(rawValue: UInt64(stream)), now: bench.now)
        _ = bench.events()
        return bench.sent().filter { $0.header.kind == .windowUpdate }.map(\.header.length)
    }

    @Test func windowIsGrantedOnReadingNotOnReceiving() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([UInt8](repeating: 0, count: window), .syn, stream: 1)
        #expect(bench.sent() == [])
        bench.session.consumed(window / 2 - 1, on: id, now: bench.now)
        #expect(bench.sent().map(\.header) == [.window(.ack, stream: 1)])
        bench.session.consumed(1, on: id, now: bench.now)
        #expect(bench.sent().map(\.header) == [.window(stream: 1, by: UInt32(window / 2))])
    }

    @Test func oneFrameGrantsManyReads() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([UInt8](repeating: 0, count: window), .syn, stream: 1)
        for _ in 0..<window / 1024 { bench.session.consumed(1024, on: id, now: bench.now) }
        #expect(bench.sent().map(\.header) == [.window(.ack, stream: 1, by: UInt32(window))])
    }

    @Test func finishedStreamIsGrantedNothing() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([UInt8](repeating: 0, count: window), [.syn, .fin], stream: 1)
        bench.session.consumed(window, on: id, now: bench.now)
        #expect(bench.sent().map(\.header) == [.window(.ack, stream: 1)])
    }

    @Test func windowDoublesWhileItLimitsTheFlow() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(60))
        try bench.receiveData([], .syn, stream: 1)
        var limit = window
        // Half a window in one round trip: too small.
        for _ in 0..<10 {
            let granted = try halfWindow(bench, limit: limit, after: .milliseconds(60))
            let next = min(limit * 2, 48 << 20)
            #expect(granted == [UInt32(limit / 2 + next - limit)])
            limit = next
        }
        #expect(limit == 48 << 20)
        #expect(bench.session.windowTotal == 48 << 20)
    }

    @Test func windowThatIsLargeEnoughStays() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(60))
        try bench.receiveData([], .syn, stream: 1)
        for _ in 0..<10 {
            #expect(try halfWindow(bench, limit: window, after: .milliseconds(130)) == [UInt32(window / 2)])
        }
    }

    @Test func windowsGrowByTheShortestOfTheFirstRoundTrips() throws {
        let bench = YamuxBench { $0.initialPings = 3 }
        // The first answer was late, and a later one waits behind data: neither is the path's time.
        for time in [Duration.milliseconds(90), .milliseconds(10), .milliseconds(50)] {
            let pings = bench.sent().filter { $0.header.kind == .ping }
            try #require(pings.count == 1)
            bench.now = bench.now + time
            try bench.receive(.ping, .ack, stream: 0, length: pings[0].header.length)
        }
        #expect(bench.sent().isEmpty)
        try bench.receiveData([], .syn, stream: 1)
        #expect(try halfWindow(bench, limit: window, after: .milliseconds(21)) == [UInt32(window / 2)])
        #expect(try halfWindow(bench, limit: window, after: .milliseconds(19)) == [UInt32(window / 2 + window)])
    }

    @Test func windowDoesNotGrowBeforeTheRoundTripIsKnown() throws {
        let bench = try YamuxBench.started()
        try bench.receiveData([], .syn, stream: 1)
        #expect(try halfWindow(bench, limit: window, after: .zero) == [UInt32(window / 2)])
    }

    @Test func connectionBoundsTheSumOfItsWindows() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(60)) {
            $0.maximumConnectionWindow = 2 * 256 * 1024 + 300_000
        }
        try bench.receiveData([], .syn, stream: 1)
        try bench.receiveData([], .syn, stream: 3)
        #expect(try halfWindow(bench, limit: window, after: .zero, stream: 1) == [UInt32(window / 2 + window)])
        #expect(try halfWindow(bench, limit: window, after: .zero, stream: 3) == [UInt32(window / 2)])
        // What a stream gives up another may have.
        bench.session.reset(StreamID(rawValue: 1))
        _ = bench.sent()
        #expect(try halfWindow(bench, limit: window, after: .zero, stream: 3) == [UInt32(window / 2 + window)])
    }

    @Test func nodeBoundsTheGrowthOfAllAndGetsItBack() throws {
        let budget = WindowBudget(limit: 3 * 256 * 1024)
        do {
            let benches = try (0..<2).map { _ in
                try YamuxBench.started(roundTrip: .milliseconds(60), budget: budget)
            }
            for bench in benches { try bench.receiveData([], .syn, stream: 1) }
            #expect(try halfWindow(benches[0], limit: window, after: .zero) == [UInt32(window / 2 + window)])
            #expect(try halfWindow(benches[1], limit: window, after: .zero) == [UInt32(window / 2 + window)])
            #expect(budget.inUse == 2 * window)
            // A doubling to 1 MiB wants 512 KiB; there are 256 left.
            #expect(try halfWindow(benches[0], limit: 2 * window, after: .zero) == [UInt32(window)])
            benches[1].session.reset(id)
            #expect(budget.inUse == window)
            #expect(try halfWindow(benches[0], limit: 2 * window, after: .zero) == [UInt32(3 * window)])
            #expect(budget.inUse == 3 * window)
        }
        #expect(budget.inUse == 0, "sessions that go give back what they held")
    }

    @Test func endOfAConnectionGivesItsWindowsBack() throws {
        let budget = WindowBudget(limit: 64 << 20)
        let pair = makeEstablishedPair(budget: budget)
        let stream = try pair.dialer.connection.openStream(now: pair.now)
        pair.listener.keepsBytes = false
        pair.dialer.connection.send(Bytes([UInt8](repeating: 1, count: 16 << 20)), on: stream)
        pair.settle()
        #expect(budget.inUse > 0)
        pair.listener.connection.transportClosed(.endOfFile, now: pair.now)
        #expect(budget.inUse == 0)
    }

    @Test func budgetIsExactUnderContention() async {
        let budget = WindowBudget(limit: 1000)
        let granted = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 { group.addTask { (0..<1000).count { _ in budget.reserve(1) } } }
            return await group.reduce(0, +)
        }
        #expect(granted == 1000 && budget.inUse == 1000)
        #expect(!budget.reserve(1))
        budget.release(1000)
        #expect(budget.reserve(1000) && !budget.reserve(1))
    }
}
