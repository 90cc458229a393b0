import MartletConnection
import MartletCore

/// What every `MultiplexedConnection` must do, whatever carries it. Each check gets a fresh, established pair.
///
///     @Test(arguments: MuxerCompliance.checks) func complies(_ check: MuxerCompliance.Check) throws {
///         try check.body(makePair())
///     }
public enum MuxerCompliance {
    public struct Check: Sendable, CustomStringConvertible {
        public let name: String
        public let body: @Sendable (any MuxerHarness) throws -> Void
        public var description: String { name }
    }

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    public static let checks: [Check] = [
        Check(name: "finish implies flush", body: finishImpliesFlush),
        Check(name: "half-closed streams still carry the other direction", body: halfClose),
        Check(name: "a stream finished without data is seen", body: emptyStream),
        Check(name: "reset ends both directions at once", body: resetEndsBothDirections),
        Check(name: "roles commute", body: rolesCommute),
        Check(name: "many streams keep their bytes apart", body: manyStreams),
        Check(name: "a reader that stops stops its writer", body: backPressure),
        Check(name: "a slow reader does not hold others up", body: slowReader),
        Check(name: "windows open again when bytes are taken", body: windowsReopen),
        Check(name: "control overtakes bulk", body: controlOvertakesBulk),
        Check(name: "streams of a class share evenly", body: fairness),
        Check(name: "writable comes once, at low water", body: writable),
        Check(name: "writable comes at a mark of the sender's own", body: writableMark),
        Check(name: "a window stays below its ceiling", body: windowCeiling),
        Check(name: "what is done to finished or unknown streams is ignored", body: lateCalls),
        Check(name: "streams are forgotten", body: streamsAreForgotten),
        Check(name: "close flushes and ends both sides once", body: closeFlushes),
        Check(name: "nothing happens after the end", body: nothingAfterEnd),
    ]

    // MARK: Helpers

    static func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        if !condition { throw Failure(description: what()) }
    }

    static func orderly(_ pair: any MuxerHarness) throws {
        try require(pair.dialer.misplaced.isEmpty, "dialer: \(pair.dialer.misplaced)")
        try require(pair.listener.misplaced.isEmpty, "listener: \(pair.listener.misplaced)")
    }

    /// Bytes that tell where they belong.
    public static func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = RandomSource(seed: seed)
        return random.bytes(count)
    }

    static func open(_ pair: any MuxerHarness, by endpoint: MuxerEndpoint? = nil) throws -> StreamID {
        try (endpoint ?? pair.dialer).connection.openStream(now: pair.now)
    }

    // MARK: Closing

    private static func finishImpliesFlush(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        let bytes = pattern(1_000_000, seed: 1)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.dialer.connection.finish(id)
        pair.settle()
        try require(pair.listener[id].received == bytes, "\(pair.listener[id].receivedCount) bytes arrived")
        try require(pair.listener[id].isFinished, "the end did not arrive")
        try require(!pair.listener[id].isClosed, "closed with one direction open")
        try orderly(pair)
    }

    private static func halfClose(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        pair.dialer.connection.send([1, 2, 3], on: id)
        pair.dialer.connection.finish(id)
        pair.settle()
        let answer = pattern(700_000, seed: 2)
        pair.listener.connection.send(Bytes(answer), on: id)
        pair.settle()
        try require(pair.dialer[id].received == answer, "the answer did not arrive")
        try require(!pair.dialer[id].isFinished && !pair.dialer[id].isClosed, "ended too early")
        pair.listener.connection.finish(id)
        pair.settle()
        try require(pair.dialer[id].isFinished && pair.dialer[id].isClosed, "the dialer's side is not closed")
        try require(pair.listener[id].isClosed, "the listener's side is not closed")
        try require(pair.dialer.connection.streamCount == 0, "the dialer keeps the stream")
        try require(pair.listener.connection.streamCount == 0, "the listener keeps the stream")
        try orderly(pair)
    }

    private static func emptyStream(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        pair.dialer.connection.finish(id)
        pair.settle()
        try require(pair.listener.inbound == [id], "the stream did not arrive")
        try require(pair.listener[id].isFinished && pair.listener[id].received.isEmpty, "it is not finished and empty")
        pair.listener.connection.finish(id)
        pair.settle()
        try require(pair.dialer[id].isClosed && pair.listener[id].isClosed, "it is not closed")
        try orderly(pair)
    }

    private static func resetEndsBothDirections(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        pair.dialer.connection.send(Bytes(pattern(100_000, seed: 3)), on: id)
        pair.settle()
        pair.listener.connection.send(Bytes(pattern(900_000, seed: 4)), on: id)
        pair.dialer.connection.send(Bytes(pattern(900_000, seed: 5)), on: id)
        _ = pair.step()
        pair.dialer.connection.reset(id)
        try require(pair.dialer.connection.streamCount == 0, "the stream is kept")
        let seen = pair.dialer[id].receivedCount
        pair.settle()
        try require(pair.dialer[id].receivedCount == seen, "data of a stream that was reset")
        try require(pair.listener[id].isReset, "the reset did not arrive")
        try require(pair.listener.connection.streamCount == 0, "the listener keeps the stream")
        try require(pair.listener.connection.queuedByteCount(on: id) == 0, "what was queued is kept")
        try require(pair.dialer.closeReasons.isEmpty, "the connection did not survive: \(pair.dialer.closeReasons)")
        // The connection goes on.
        let next = try open(pair)
        pair.dialer.connection.send([9], on: next)
        pair.settle()
        try require(pair.listener[next].received == [9], "the connection does not go on")
        try orderly(pair)
    }

    private static func closeFlushes(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        let bytes = pattern(600_000, seed: 6)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.dialer.connection.finish(id)
        pair.dialer.connection.close(now: pair.now)
        pair.settle()
        try require(pair.listener[id].received == bytes, "\(pair.listener[id].receivedCount) bytes arrived")
        try require(pair.dialer.closeReasons == [.closedLocally], "dialer: \(pair.dialer.closeReasons)")
        pair.listener.connection.transportClosed(.endOfFile, now: pair.now)
        pair.settle()
        try require(pair.listener.closeReasons.count == 1, "listener: \(pair.listener.closeReasons)")
        do {
            _ = try open(pair, by: pair.listener)
            throw Failure(description: "a stream opens on a closed connection")
        } catch let error as StreamOpenError {
            try require(error == .closed, "\(error)")
        }
        try orderly(pair)
    }

    private static func nothingAfterEnd(_ pair: any MuxerHarness) throws {
        let id = try open(pair)
        pair.dialer.connection.send([1], on: id)
        pair.settle()
        let connection = pair.dialer.connection
        connection.transportClosed(.failed("connection reset"), now: pair.now)
        pair.dialer.drain(now: pair.now)
        connection.transportClosed(.endOfFile, now: pair.now)
        connection.send([2], on: id)
        connection.finish(id)
        connection.reset(id)
        connection.consumed(1, on: id, now: pair.now)
        connection.close(now: pair.now)
        connection.handleTimeout(now: pair.now + .seconds(1000))
        pair.dialer.drain(now: pair.now)
        try require(pair.dialer.closeReasons == [.transportFailed("connection reset")], "\(pair.dialer.closeReasons)")
        try require(connection.deadline == nil, "a deadline after the end")
        try require(connection.streamCount == 0, "streams after the end")
        try orderly(pair)
    }

    // MARK: Streams

    private static func rolesCommute(_ pair: any MuxerHarness) throws {
        let fromDialer = try open(pair)
        let fromListener = try open(pair, by: pair.listener)
        try require(fromDialer != fromListener, "both sides use \(fromDialer)")
        let a = pattern(400_000, seed: 7)
        let b = pattern(400_000, seed: 8)
        for (endpoint, id, bytes) in [(pair.dialer, fromDialer, a), (pair.listener, fromListener, b)] {
            endpoint.connection.send(Bytes(bytes), on: id)
            endpoint.connection.finish(id)
        }
        pair.settle()
        try require(pair.listener[fromDialer].received == a, "the dialer's stream")
        try require(pair.dialer[fromListener].received == b, "the listener's stream")
        pair.listener.connection.finish(fromDialer)
        pair.dialer.connection.finish(fromListener)
        pair.settle()
        try require(
            pair.dialer.connection.streamCount == 0 && pair.listener.connection.streamCount == 0, "streams left")
        try orderly(pair)
    }

    private static func manyStreams(_ pair: any MuxerHarness) throws {
        var ids: [StreamID] = []
        for index in 0..<200 {
            let endpoint = index % 2 == 0 ? pair.dialer : pair.listener
            let id = try open(pair, by: endpoint)
            ids.append(id)
            for piece in 0..<4 {
                endpoint.connection.send(Bytes(pattern(1_000 * piece + index, seed: UInt64(index * 4 + piece))), on: id)
            }
            endpoint.connection.finish(id)
        }
        pair.settle()
        for (index, id) in ids.enumerated() {
            let other = index % 2 == 0 ? pair.listener : pair.dialer
            let expected = (0..<4).flatMap { pattern(1_000 * $0 + index, seed: UInt64(index * 4 + $0)) }
            try require(other[id].received == expected, "\(id) of \(index)")
            try require(other[id].isFinished, "\(id) is not finished")
            other.connection.finish(id)
        }
        pair.settle()
        try require(pair.dialer.connection.streamCount == 0, "\(pair.dialer.connection.streamCount) streams left")
        try orderly(pair)
    }

    private static func lateCalls(_ pair: any MuxerHarness) throws {
        let unknown = StreamID(rawValue: 4_000_000_001)
        let connection = pair.dialer.connection
        connection.send([1], on: unknown)
        connection.finish(unknown)
        connection.reset(unknown)
        connection.consumed(10, on: unknown, now: pair.now)
        connection.setPriority(.bulk, of: unknown)
        try require(connection.queuedByteCount(on: unknown) == 0, "bytes on an unknown stream")
        let id = try open(pair)
        connection.send([1], on: id)
        connection.finish(id)
        connection.send([2], on: id)
        connection.finish(id)
        pair.settle()
        connection.send([3], on: id)
        pair.settle()
        try require(pair.listener[id].received == [1], "\(pair.listener[id].received)")
        pair.listener.connection.consumed(1_000_000_000, on: id, now: pair.now)
        pair.settle()
        try require(pair.dialer.closeReasons.isEmpty, "\(pair.dialer.closeReasons)")
        try orderly(pair)
    }

    private static func streamsAreForgotten(_ pair: any MuxerHarness) throws {
        for round in 0..<2_000 {
            let id = try open(pair)
            pair.dialer.connection.send([UInt8(truncatingIfNeeded: round)], on: id)
            pair.dialer.connection.finish(id)
            pair.settle()
            pair.listener.connection.finish(id)
            pair.settle()
            try require(pair.dialer[id].isClosed && pair.listener[id].isClosed, "\(id) in round \(round)")
        }
        try require(pair.dialer.connection.streamCount == 0, "the dialer keeps streams")
        try require(pair.listener.connection.streamCount == 0, "the listener keeps streams")
        try orderly(pair)
    }

    // MARK: Flow

    private static func backPressure(_ pair: any MuxerHarness) throws {
        pair.listener.consumesAtOnce = false
        let id = try open(pair)
        let bytes = pattern(8 << 20, seed: 9)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.settle()
        let arrived = pair.listener[id].receivedCount
        try require(arrived > 0 && arrived <= 1 << 20, "\(arrived) bytes came to a reader that takes none")
        try require(pair.dialer.connection.queuedByteCount(on: id) == bytes.count - arrived, "the rest is not queued")
        pair.listener.consumesAtOnce = true
        pair.listener.consume(on: id, now: pair.now)
        pair.settle()
        try require(pair.listener[id].received == bytes, "\(pair.listener[id].receivedCount) bytes in the end")
        try orderly(pair)
    }

    private static func slowReader(_ pair: any MuxerHarness) throws {
        pair.listener.consumesAtOnce = false
        let stuck = try open(pair)
        pair.dialer.connection.send(Bytes(pattern(4 << 20, seed: 10)), on: stuck)
        pair.settle()
        let swift = try open(pair)
        let bytes = pattern(2 << 20, seed: 11)
        pair.dialer.connection.send(Bytes(bytes), on: swift)
        for _ in 0..<10_000 where pair.listener[swift].receivedCount < bytes.count {
            pair.listener.consume(on: swift, now: pair.now)
            pair.settle()
        }
        try require(pair.listener[swift].received == bytes, "\(pair.listener[swift].receivedCount) bytes passed")
        try orderly(pair)
    }

    private static func windowsReopen(_ pair: any MuxerHarness) throws {
        pair.listener.consumesAtOnce = false
        let id = try open(pair)
        let bytes = pattern(3_000_000, seed: 12)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.dialer.connection.finish(id)
        var rounds = 0
        while !pair.listener[id].isFinished {
            pair.settle()
            pair.listener.consume(10_007, on: id, now: pair.now)
            rounds += 1
            try require(rounds < 10_000, "stuck at \(pair.listener[id].receivedCount) bytes")
        }
        try require(pair.listener[id].received == bytes, "other bytes")
        try orderly(pair)
    }

    private static func controlOvertakesBulk(_ pair: any MuxerHarness) throws {
        var order: [StreamID] = []
        pair.listener.onData = { id, _ in if order.last != id { order.append(id) } }
        let bulk = try open(pair)
        pair.dialer.connection.setPriority(.bulk, of: bulk)
        let normal = try open(pair)
        let control = try open(pair)
        pair.dialer.connection.setPriority(.control, of: control)
        pair.dialer.connection.send(Bytes(pattern(200_000, seed: 13)), on: bulk)
        pair.dialer.connection.send(Bytes(pattern(100_000, seed: 14)), on: normal)
        pair.dialer.connection.send(Bytes(pattern(50_000, seed: 15)), on: control)
        pair.settle()
        try require(order == [control, normal, bulk], "they came as \(order)")
        // A stream already waiting is moved by a change of its class.
        order = []
        pair.dialer.connection.send(Bytes(pattern(20_000, seed: 16)), on: normal)
        pair.dialer.connection.send(Bytes(pattern(20_000, seed: 17)), on: bulk)
        pair.dialer.connection.setPriority(.control, of: bulk)
        pair.settle()
        try require(order == [bulk, normal], "after the change they came as \(order)")
        try orderly(pair)
    }

    private static func fairness(_ pair: any MuxerHarness) throws {
        let ids = try (0..<4).map { _ in try open(pair) }
        pair.listener.keepsBytes = false
        var least: [Int] = []
        pair.listener.onData = { _, _ in
            let counts = ids.map { pair.listener[$0].receivedCount }
            if let largest = counts.max(), let smallest = counts.min(), largest <= 200_000 {
                least.append(largest - smallest)
            }
        }
        for (index, id) in ids.enumerated() {
            // Pieces of different sizes must not matter.
            let piece = [100, 3_000, 20_000, 200_000][index]
            for _ in 0..<(200_000 / piece) { pair.dialer.connection.send(Bytes(pattern(piece, seed: 18)), on: id) }
        }
        pair.settle()
        let worst = least.max() ?? .max
        try require(worst <= 3 * 16 * 1024, "one stream was \(worst) bytes ahead of another")
        pair.listener.onData = nil
        try orderly(pair)
    }

    private static func writable(_ pair: any MuxerHarness) throws {
        pair.listener.consumesAtOnce = false
        let id = try open(pair)
        pair.dialer.connection.send(Bytes(pattern(1_000_000, seed: 19)), on: id)
        pair.settle()
        try require(pair.dialer[id].writableCount == 0, "writable without having been full")
        pair.dialer.connection.send(Bytes(pattern(2_000_000, seed: 20)), on: id)
        pair.settle()
        try require(pair.dialer[id].writableCount == 0, "writable while full")
        pair.listener.consumesAtOnce = true
        pair.listener.consume(on: id, now: pair.now)
        pair.settle()
        try require(pair.dialer.connection.queuedByteCount(on: id) == 0, "not all is sent")
        try require(pair.dialer[id].writableCount == 1, "writable came \(pair.dialer[id].writableCount) times")
        try orderly(pair)
    }

    private static func writableMark(_ pair: any MuxerHarness) throws {
        pair.listener.consumesAtOnce = false
        let id = try open(pair)
        let dialer = pair.dialer.connection
        dialer.notifyWritable(atOrBelow: 10, on: id)
        dialer.send(Bytes(pattern(900_000, seed: 21)), on: id)
        pair.settle()
        let queued = dialer.queuedByteCount(on: id)
        try require(pair.dialer[id].writableCount == 0, "writable while nobody asked")
        dialer.notifyWritable(atOrBelow: queued, on: id)
        dialer.notifyWritable(atOrBelow: queued - 20_000, on: id)
        while pair.dialer[id].writableCount == 0 {
            try require(dialer.queuedByteCount(on: id) > queued - 20_000, "no writable at the mark")
            pair.listener.consume(150_000, on: id, now: pair.now)
            pair.settle()
        }
        try require(dialer.queuedByteCount(on: id) > 0, "writable only when all was gone")
        pair.listener.consumesAtOnce = true
        pair.listener.consume(on: id, now: pair.now)
        pair.settle()
        try require(pair.dialer[id].writableCount == 1, "writable came \(pair.dialer[id].writableCount) times")
        try orderly(pair)
    }

    /// How much a sender may have under way after its receiver has taken much for a while and then stops.
    private static func underWay(_ pair: any MuxerHarness, ceiling: Int?) throws -> Int {
        let id = try open(pair)
        pair.dialer.connection.send([0], on: id)
        pair.settle()
        if let ceiling { pair.listener.connection.limitWindow(to: ceiling, on: id) }
        pair.dialer.connection.send(Bytes(pattern(12_000_000, seed: 22)), on: id)
        pair.run { pair.listener[id].receivedCount > 4_000_000 }
        pair.listener.consumesAtOnce = false
        pair.settle()
        defer { pair.listener.consumesAtOnce = true }
        try require(pair.dialer.connection.queuedByteCount(on: id) > 0, "all went through")
        return pair.listener[id].unconsumed
    }

    private static func windowCeiling(_ pair: any MuxerHarness) throws {
        let ceiling = 512 * 1024
        let limited = try underWay(pair, ceiling: ceiling)
        try require(limited <= ceiling, "\(limited) bytes under way")
        let free = try underWay(pair, ceiling: nil)
        try require(free > ceiling, "only \(free) bytes under way without a ceiling")
        try orderly(pair)
    }
}
