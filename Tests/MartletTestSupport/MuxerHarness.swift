public import MartletConnection
public import MartletCore

/// Two connections back to back, however they are joined: by a pipe of bytes for Yamux, by datagrams for QUIC.
public protocol MuxerHarness: AnyObject {
    var dialer: MuxerEndpoint { get }
    var listener: MuxerEndpoint { get }
    var now: Instant { get }

    /// Lets each side send what it has and the other receive it, once. Returns whether anything moved.
    func step() -> Bool

    /// Lets time pass, and what is due happen.
    func advance(by time: Duration)
}

extension MuxerHarness {
    /// Steps until nothing moves any more. A pair that never comes to rest is stuck in a loop of its own.
    public func settle(limit: Int = 1_000_000) {
        for _ in 0..<limit where !step() { return }
        preconditionFailure("the pair does not come to rest")
    }

    /// Steps until `condition` holds; false when the pair comes to rest before.
    @discardableResult
    public func run(until condition: () -> Bool) -> Bool {
        while !condition() {
            guard step() else { return condition() }
        }
        return true
    }
}

/// One side of a pair, with the application that a test puts on top: it keeps what it is told.
public final class MuxerEndpoint {
    /// What was seen of one stream.
    public struct StreamRecord {
        public var received: [UInt8] = []
        public var receivedCount = 0
        public var unconsumed = 0
        public var isInbound = false
        public var isFinished = false
        public var isReset = false
        public var isClosed = false
        public var writableCount = 0
    }

    public let connection: any MultiplexedConnection
    public private(set) var streams: [StreamID: StreamRecord] = [:]
    /// Streams that the peer opened, in the order in which they came.
    public private(set) var inbound: [StreamID] = []
    public private(set) var remote: RemoteIdentity?
    public private(set) var closeReasons: [ConnectionCloseReason] = []
    public private(set) var roundTrips: [Duration] = []
    /// Events that must not come: after the last one of a stream or of the connection, or before it is established.
    public private(set) var misplaced: [String] = []
    /// Whether received bytes are taken at once; else `consume` takes them.
    public var consumesAtOnce = true
    /// Whether received bytes are kept.
    public var keepsBytes = true
    /// Sees every piece of data, in order.
    public var onData: ((StreamID, Bytes) -> Void)?

    public init(_ connection: any MultiplexedConnection) {
        self.connection = connection
    }

    public subscript(_ id: StreamID) -> StreamRecord { streams[id] ?? StreamRecord() }

    /// Takes up to `count` unconsumed bytes of a stream.
    public func consume(_ count: Int = .max, on id: StreamID, now: Instant) {
        let taken = min(count, streams[id]?.unconsumed ?? 0)
        guard taken > 0 else { return }
        streams[id]?.unconsumed -= taken
        connection.consumed(taken, on: id, now: now)
    }

    /// Takes note of all events. Returns whether there were any.
    @discardableResult
    public func drain(now: Instant) -> Bool {
        var any = false
        while let event = connection.nextEvent() {
            any = true
            note(event, now: now)
        }
        return any
    }

    private func note(_ event: ConnectionEvent, now: Instant) {
        if !closeReasons.isEmpty { misplaced.append("after the end: \(event)") }
        switch event {
        case .established(let identity):
            if remote != nil { misplaced.append("established twice") }
            remote = identity
        case .inboundStream(let id):
            if let record = streams[id], !record.isClosed, !record.isReset { misplaced.append("\(id) opened twice") }
            streams[id] = StreamRecord(isInbound: true)
            inbound.append(id)
        case .data(let id, let bytes):
            check(id, "data")
            streams[id, default: .init()].receivedCount += bytes.count
            streams[id, default: .init()].unconsumed += bytes.count
            if keepsBytes { bytes.withUnsafeBytes { streams[id, default: .init()].received.append(contentsOf: $0) } }
            onData?(id, bytes)
            if consumesAtOnce { consume(on: id, now: now) }
        case .remoteFinished(let id):
            check(id, "end")
            streams[id, default: .init()].isFinished = true
        case .streamReset(let id):
            check(id, "reset", afterFinish: true)
            streams[id, default: .init()].isReset = true
        case .streamClosed(let id):
            check(id, "close", afterFinish: true)
            streams[id, default: .init()].isClosed = true
        case .writable(let id):
            check(id, "writable", afterFinish: true)
            streams[id, default: .init()].writableCount += 1
        case .roundTrip(let time):
            roundTrips.append(time)
        case .closed(let reason):
            closeReasons.append(reason)
        }
    }

    private func check(_ id: StreamID, _ what: String, afterFinish: Bool = false) {
        let record = self[id]
        if record.isReset || record.isClosed || (record.isFinished && !afterFinish) {
            misplaced.append("\(what) of \(id) after its end")
        }
    }
}
