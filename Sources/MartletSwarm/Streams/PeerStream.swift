public import MartletConnection
public import MartletCore

/// One stream of a peer connection, with the protocol that runs on it. Confined to the connection's loop.
public final class PeerStream {
    public let id: StreamID
    public let isOutbound: Bool
    /// The protocol agreed on; empty until then.
    public internal(set) var protocolID = ""
    /// The connection, while the stream lives.
    public internal(set) weak var connection: PeerConnection?

    var handler: (any StreamHandler)?
    var negotiation: StreamNegotiation
    var deadline: Instant?
    /// The handler set the deadline, so that the end of the negotiation does not clear it.
    var isDeadlineOfHandler = false
    var inboundSlot: String?
    /// The handler was told before the peer agreed, because the peer is known to speak the protocol.
    var isOpenedEarly = false
    private(set) var isFinished = false
    private(set) var isRemoteFinished = false

    init(id: StreamID, isOutbound: Bool, connection: PeerConnection, negotiation: StreamNegotiation) {
        self.id = id
        self.isOutbound = isOutbound
        self.connection = connection
        self.negotiation = negotiation
    }

    /// Whether the stream still lives.
    public var isOpen: Bool { connection != nil }

    /// Queues `bytes` for sending at the end of the turn. Ignored once the stream is finished or closed.
    public func send(_ bytes: Bytes) {
        guard let connection, !isFinished, !bytes.isEmpty else { return }
        connection.send(bytes, on: id)
    }

    /// The number of bytes queued and not yet handed to the transport.
    public var queuedByteCount: Int { connection?.muxer.queuedByteCount(on: id) ?? 0 }

    /// Above this many queued bytes, `streamWritable` will tell when the queue has drained.
    public var sendHighWater: Int { connection?.sendHighWater ?? 0 }

    /// Has `streamWritable` called as soon as at most `byteCount` bytes are queued, if more are now.
    public func notifyWritable(atOrBelow byteCount: Int) {
        connection?.muxer.notifyWritable(atOrBelow: byteCount, on: id)
    }

    /// Keeps the receive window from growing beyond `byteCount`, which bounds what the peer may have under way.
    public func limitWindow(to byteCount: Int) {
        connection?.muxer.limitWindow(to: byteCount, on: id)
    }

    /// Grants the peer `count` more bytes: call when bytes were used, not when they were received.
    public func consumed(_ count: Int) {
        guard let connection, count > 0 else { return }
        connection.muxer.consumed(count, on: id, now: connection.now)
        connection.markActive()
    }

    /// Says that nothing more will be sent.
    public func finish() {
        guard let connection, !isFinished else { return }
        isFinished = true
        connection.muxer.finish(id)
        connection.markActive()
    }

    /// Ends both directions; the handler hears `.resetLocally`.
    public func reset() {
        connection?.close(self, reason: .resetLocally, resettingPeer: true)
    }

    /// Has `handler` hear of the stream from now on, as when a protocol's handshake is over and its stream becomes something
    /// else. Not for a stream that is closed.
    public func handOver(to handler: any StreamHandler) {
        guard isOpen else { return }
        self.handler = handler
    }

    /// Resets the stream because the peer broke the protocol.
    public func fail(_ violation: String) {
        connection?.close(self, reason: .protocolViolation(violation), resettingPeer: true)
    }

    public func setPriority(_ priority: StreamPriority) {
        connection?.muxer.setPriority(priority, of: id)
    }

    /// Closes the stream with `.negotiationTimedOut` unless renewed or cleared within the connection's stream time-out.
    public func startDeadline() {
        isDeadlineOfHandler = true
        connection?.startDeadline(of: self)
    }

    public func clearDeadline() {
        isDeadlineOfHandler = false
        deadline = nil
    }

    func markRemoteFinished() { isRemoteFinished = true }
}

/// Where a stream stands in agreeing on its protocol.
enum StreamNegotiation {
    case proposing(MultistreamDialer, proposals: [String])
    case answering(MultistreamListener)
    case agreed
}
