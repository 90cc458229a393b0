import DequeModule
public import MartletConnection
public import MartletCore

/// Who runs a connection: a driver on its loop, or the simulator.
public protocol PeerConnectionOwner: AnyObject {
    /// Something is waiting to be sent, reported or timed: look after the connection before this turn ends. Called at
    /// most once between two calls of `serviced()`.
    func connectionNeedsService(_ connection: PeerConnection)
}

/// What a connection tells the swarm.
public enum PeerConnectionEvent: Sendable {
    /// The peer proved who it is and streams can be opened.
    case established(RemoteIdentity)
    case identified(IdentifyInfo, isPush: Bool)
    case identifyFailed(String)
    case roundTrip(Duration)
    /// The application began to use the connection, or no longer does: streams other than identify and ping.
    case usage(isBusy: Bool)
    /// The connection is over; nothing follows.
    case closed(ConnectionCloseReason)
}

/// What is the same for all connections of a node.
public struct PeerConnectionSettings: Sendable {
    /// How long a peer may take to agree on a stream's protocol, and to answer identify.
    public var streamTimeout: Duration = .seconds(10)
    /// How long a redundant connection stays idle before it is closed.
    public var retirementDelay = Duration.seconds(2)
    /// Whether to ask every new peer who it is. On except in tests.
    public var identifiesPeers = true

    public init() {}
}

/// One secured, multiplexed connection to a peer: opens and accepts streams, agrees on their protocols and hands them to
/// their handlers, and identifies the peer.
///
/// Sans-I/O and confined to one loop. The owner feeds it bytes and time, then drains `nextEvent()`, then moves what
/// `transmit` gives to the wire and wakes it at `deadline`.
public final class PeerConnection {
    public let id: ConnectionID
    public let role: ConnectionRole
    public let remoteAddress: Multiaddr
    public let local: LocalPeer
    public let settings: PeerConnectionSettings
    public let muxer: any MultiplexedConnection
    /// The muxer, when it is one over a stream of bytes.
    private let byteStream: (any ByteStreamConnection)?
    /// How many bytes a stream may queue before it counts as full.
    public let sendHighWater: Int
    public weak var owner: (any PeerConnectionOwner)?

    /// The time of the input being handled.
    public internal(set) var now: Instant
    /// Who the peer is, once it proved it.
    public internal(set) var remote: RemoteIdentity?
    /// The protocols that the peer said it speaks; nil before identify.
    public internal(set) var remoteProtocols: [String]?

    /// Bytes of streams, so far.
    public private(set) var receivedByteCount: UInt64 = 0
    public private(set) var sentByteCount: UInt64 = 0

    var streams: [StreamID: PeerStream] = [:]
    var inboundCounts: [String: Int] = [:]
    var deadlines: Deque<(Instant, StreamID)> = []
    var events: Deque<PeerConnectionEvent> = []
    var isClosed = false
    var isRetiring = false
    /// When a retiring connection was last seen in use.
    var retireAt: Instant?
    var wasBusy = false
    /// How the connection is kept alive while the application has no stream open; nil for the same way as always.
    public var restingKeepAlive: KeepAlive? {
        didSet { if restingKeepAlive != oldValue { applyKeepAlive() } }
    }
    private var isServiceRequested = false

    public init(
        id: ConnectionID, role: ConnectionRole, remoteAddress: Multiaddr, muxer: any MultiplexedConnection,
        sendHighWater: Int, local: LocalPeer, settings: PeerConnectionSettings, now: Instant
    ) {
        self.id = id
        self.role = role
        self.remoteAddress = remoteAddress
        self.muxer = muxer
        byteStream = muxer as? any ByteStreamConnection
        self.sendHighWater = sendHighWater
        self.local = local
        self.settings = settings
        self.now = now
    }

    // MARK: Input

    /// The unfinished record to put before the next bytes received.
    public var leftover: Bytes { byteStream?.leftover ?? Bytes() }

    public func receive(_ region: ReceivedRegion, now: Instant) {
        advance(to: now)
        byteStream?.receive(region, now: now)
        process()
    }

    /// Says that the muxer was given datagrams, or that some were taken from it: its owner does that, not this.
    public func muxerServed(now: Instant) {
        advance(to: now)
        process()
    }

    public func transportClosed(_ reason: TransportEnd, now: Instant) {
        advance(to: now)
        muxer.transportClosed(reason, now: now)
        process()
    }

    /// The earliest moment at which `handleTimeout` has work.
    public var deadline: Instant? {
        guard !isClosed else { return nil }
        return earliest(earliest(deadlines.first?.0, retireAt), muxer.deadline)
    }

    public func handleTimeout(now: Instant) {
        advance(to: now)
        muxer.handleTimeout(now: now)
        expireStreams()
        if let retireAt, now >= retireAt {
            // In use again: the last stream that ends begins the wait anew.
            self.retireAt = nil
            if streams.isEmpty { muxer.close(now: now) }
        }
        process()
    }

    /// Sets the clock, before an operation on a stream that does not come from an input.
    public func advance(to now: Instant) {
        if now > self.now { self.now = now }
    }

    // MARK: Output

    public func nextEvent() -> PeerConnectionEvent? { events.popFirst() }

    public var hasPendingTransmit: Bool { muxer.hasPendingTransmit }

    /// Appends whole records that fit; nothing appended means there is nothing to send. Streams whose queue drained
    /// may hear of it, so drain `nextEvent()` and look at `deadline` afterwards.
    public func transmit(into buffer: inout TransmitBuffer, now: Instant) {
        advance(to: now)
        byteStream?.transmit(into: &buffer, now: now)
        process()
    }

    /// Called by the owner when it has drained events, sent what was pending and set its timer.
    public func serviced() { isServiceRequested = false }

    func send(_ bytes: Bytes, on stream: StreamID) {
        sentByteCount &+= UInt64(bytes.count)
        muxer.send(bytes, on: stream)
        markActive()
    }

    func markActive() {
        guard !isServiceRequested else { return }
        isServiceRequested = true
        owner?.connectionNeedsService(self)
    }

    func report(_ event: PeerConnectionEvent) {
        if case .identified(let info, _) = event, let protocols = info.protocols { remoteProtocols = protocols }
        events.append(event)
        markActive()
    }

    // MARK: Orders

    /// Closes in order: tells the peer, then the transport ends.
    public func close(now: Instant) {
        advance(to: now)
        muxer.close(now: now)
        process()
        markActive()
    }

    /// Closes when no stream has been open for a while: how a redundant connection to a peer goes without hurting anybody.
    /// The while lets the peer find out about the other connection before it loses a stream that it is just opening.
    public func retire(now: Instant) {
        advance(to: now)
        isRetiring = true
        closeIfRetired()
    }

    /// Is not redundant any more: the connection that it was to make way for is gone.
    public func reinstate(now: Instant) {
        advance(to: now)
        isRetiring = false
        retireAt = nil
        markActive()
    }

    func closeIfRetired() {
        guard isRetiring, !isClosed else { return }
        retireAt = streams.isEmpty ? now + settings.retirementDelay : nil
        markActive()
    }

    /// Asks the peer at once whether it is still there; without an answer soon, the connection ends.
    public func probe(now: Instant) {
        advance(to: now)
        muxer.probe(now: now)
        markActive()
    }

    /// Tells the peer what changed about us.
    public func pushIdentify(now: Instant) {
        advance(to: now)
        guard remote != nil, remoteProtocols?.contains(Identify.pushProtocolID) != false else { return }
        _ = try? openStream([Identify.pushProtocolID], handler: IdentifyPusher(local: local))
    }

    /// The number of open streams, both ways.
    public var streamCount: Int { streams.count }

    /// Whether the application (not identify or ping) has streams open.
    public var isBusy: Bool {
        streams.values.contains { !Self.housekeeping.contains($0.protocolID) && !$0.protocolID.isEmpty }
    }
    private static let housekeeping: Set<String> = [Identify.protocolID, Identify.pushProtocolID, Ping.protocolID]

    // MARK: The muxer's events

    private func process() {
        while let event = muxer.nextEvent() {
            switch event {
            case .established(let identity): becameEstablished(identity)
            case .inboundStream(let id): accept(id)
            case .data(let id, let bytes):
                receivedByteCount &+= UInt64(bytes.count)
                received(bytes, on: id)
            case .remoteFinished(let id): remoteFinished(id)
            case .streamReset(let id): ended(id, .resetByPeer)
            case .streamClosed(let id): ended(id, .finished)
            case .writable(let id): writable(id)
            case .roundTrip(let time): report(.roundTrip(time))
            case .closed(let reason): becameClosed(reason)
            }
        }
        if muxer.hasPendingTransmit || !events.isEmpty { markActive() }
    }

    private func becameEstablished(_ identity: RemoteIdentity) {
        remote = identity
        report(.established(identity))
        guard settings.identifiesPeers else { return }
        _ = try? openStream([Identify.protocolID], handler: IdentifyReader(isPush: false))
    }

    private func becameClosed(_ reason: ConnectionCloseReason) {
        guard !isClosed else { return }
        isClosed = true
        // In the order of their ids, so that a run can be repeated.
        for stream in streams.values.sorted(by: { $0.id < $1.id }) {
            close(stream, reason: .connectionClosed("\(reason)"), resettingPeer: false)
        }
        deadlines = []
        report(.closed(reason))
    }
}

private func earliest(_ left: Instant?, _ right: Instant?) -> Instant? {
    guard let left else { return right }
    return right.map { min(left, $0) } ?? left
}

/// Names one connection of a node; never used twice.
public struct ConnectionID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: ConnectionID, right: ConnectionID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "#\(rawValue)" }
}
