public import MartletCore

/// A secured connection that carries many streams: what Yamux over Noise over TCP, and QUIC, offer to the layers above.
///
/// A sans-I/O machine, confined to one loop. Its owner feeds it what came from the network, in the way of its transport
/// (`ByteStreamConnection`, or the datagrams of a `QUICEndpoint`), and time, and after every call takes what came out:
///
///     while let event = connection.nextEvent() { … }
///     if connection.hasPendingTransmit { socket.setNeedsFlush() }    // later: connection.transmit(…)
///     timer.schedule(at: connection.deadline)                        // later: connection.handleTimeout(now: now)
///
/// Any call may add events and change `deadline`. After `.closed` the machine ignores every input; nothing it is told
/// then is an error.
public protocol MultiplexedConnection: AnyObject {
    /// The transport under the connection has ended.
    func transportClosed(_ reason: TransportEnd, now: Instant)

    /// Whether there is, or may be, something to send.
    var hasPendingTransmit: Bool { get }

    /// When `handleTimeout` wants to be called; nil when nothing is timed.
    var deadline: Instant? { get }

    /// Says that `now` has come. Harmless when called early.
    func handleTimeout(now: Instant)

    /// What has happened since, oldest first; nil when all is told.
    func nextEvent() -> ConnectionEvent?

    /// Opens a stream. It costs no round trip: the peer learns of it with the first bytes sent on it.
    func openStream(now: Instant) throws(StreamOpenError) -> StreamID

    /// Queues `bytes` on `stream`. They are kept until they are sent; `queuedByteCount` and `.writable` tell when to
    /// go on. Ignored on a stream that was finished, reset or forgotten.
    func send(_ bytes: Bytes, on stream: StreamID)

    /// The number of bytes given to `send` that were not yet passed to `transmit`.
    func queuedByteCount(on stream: StreamID) -> Int

    /// Ends the own direction once everything queued is sent.
    func finish(_ stream: StreamID)

    /// Ends both directions at once and forgets the stream: what is queued is dropped and no further event names it.
    func reset(_ stream: StreamID)

    /// Says that the application has taken `count` bytes of those handed up in `.data`: the peer may send as many more.
    func consumed(_ count: Int, on stream: StreamID, now: Instant)

    /// Sets the order in which `stream` is sent; a new stream is `.normal`.
    func setPriority(_ priority: StreamPriority, of stream: StreamID)

    /// Asks for `.writable` as soon as at most `byteCount` bytes are queued on `stream`: for a sender with marks of its own
    /// below high water. Ignored while no more are queued, or when the stream is unknown.
    func notifyWritable(atOrBelow byteCount: Int, on stream: StreamID)

    /// Keeps the receive window of `stream` from growing beyond `byteCount`. It does not shrink one that has grown.
    func limitWindow(to byteCount: Int, on stream: StreamID)

    /// Keeps the connection alive in this way from now on; nil for the way of the configuration. A peer that would have been asked
    /// already in this way is asked now: that it said nothing when nobody asked says nothing of it.
    func setKeepAlive(_ keepAlive: KeepAlive?, now: Instant)

    /// Asks the peer at once whether it is there, and ends the connection unless something comes from it within
    /// `ConnectionConfiguration.probeTime`: for when there is reason to doubt it.
    func probe(now: Instant)

    /// The number of streams alive in either direction.
    var streamCount: Int { get }

    /// Ends the connection in order: what is queued is sent as far as the peer takes it within
    /// `ConnectionConfiguration.closeTimeout`, then the peer is told, then comes `.closed(.closedLocally)`.
    func close(now: Instant)
}

/// A `MultiplexedConnection` over a stream of bytes, such as TCP.
public protocol ByteStreamConnection: MultiplexedConnection {
    /// Bytes of an unfinished record. They must stand in front of the next bytes received
    /// (`ReceiveBuffer.space(minimum:keeping:)` does that).
    var leftover: Bytes { get }

    /// Takes bytes from the network, `leftover` first. The region is decrypted in place, and slices of it are handed out.
    func receive(_ region: ReceivedRegion, now: Instant)

    /// Appends what is to be sent, in whole records, as far as it fits. Call again, with room, while `hasPendingTransmit`.
    func transmit(into buffer: inout TransmitBuffer, now: Instant)
}

/// Which side began the connection. It decides the roles in Noise and the parity of stream ids, so under a hole punch
/// it is what the two sides agreed on, not who dialled.
public enum ConnectionRole: Hashable, Sendable {
    case dialer
    case listener
}

/// The name of a stream within its connection. Never used again by the same side.
@frozen
public struct StreamID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    @inlinable
    public static func < (left: StreamID, right: StreamID) -> Bool { left.rawValue < right.rawValue }

    public var description: String { "stream \(rawValue)" }
}

/// The order in which streams are sent: nothing of a lower class goes while a higher one has something to send.
/// Within a class streams share evenly.
@frozen
public enum StreamPriority: UInt8, Hashable, Sendable, CaseIterable {
    case control
    case normal
    case bulk
}

/// How a transport ended.
public enum TransportEnd: Hashable, Sendable {
    /// The peer closed its sending side.
    case endOfFile
    /// The system reported an error.
    case failed(String)
}

/// Why a stream could not be opened.
public enum StreamOpenError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The handshake is still under way.
    case notEstablished
    /// The peer has not yet acknowledged `limit` streams; try again when it has.
    case tooManyUnacknowledged(limit: Int)
    /// The peer or this side is ending the connection.
    case closing
    /// The connection has ended.
    case closed
    /// All stream ids of this side have been used.
    case idsExhausted

    public var description: String {
        switch self {
        case .notEstablished: "the connection is not yet established"
        case .tooManyUnacknowledged(let limit): "the peer has left \(limit) new streams unacknowledged"
        case .closing: "the connection is being closed"
        case .closed: "the connection is closed"
        case .idsExhausted: "the connection has used all its stream ids"
        }
    }
}
