/// Limits and times of one connection. A value of reference cost zero: connections of a node share one copy.
public struct ConnectionConfiguration: Sendable {
    /// After how long without a byte from the peer a ping is sent; nil for never.
    public var keepAliveInterval: Duration? = .seconds(1)
    /// After how long without a byte from the peer the connection counts as dead; nil for never.
    public var deadAfter: Duration? = .milliseconds(2500)
    /// How many pings go out one after the other at the start. The shortest of their round trips counts as the path's and
    /// sizes the windows, and the first alone may have waited for the processor.
    public var initialPings = 4
    /// How long the whole upgrade (security and muxer) may take.
    public var handshakeTimeout: Duration = .seconds(10)
    /// How long `close` waits for what is queued to be taken by the peer.
    public var closeTimeout: Duration = .seconds(1)
    /// Streams that the peer may have open at once; more are refused one by one.
    public var maximumStreams = 1024
    /// Own streams that the peer has not acknowledged yet; libp2p says at most 256.
    public var ackBacklog = 256
    /// The window that Yamux gives every stream at the start. Fixed by its specification.
    public let initialWindow = 256 * 1024
    /// How far a stream's receive window may grow. It grows with the path: 1 Gbit/s with a round trip of 100 ms has 12.5 MB on the way,
    /// and twice that much waits behind a packet that was lost and is sent again.
    public var maximumStreamWindow = 48 * 1024 * 1024
    /// How far the receive windows of all streams together may grow.
    public var maximumConnectionWindow = 64 * 1024 * 1024
    /// The payload of one frame at most.
    public var frameLimit = largestFrame
    static let largestFrame = 16 * 1024
    /// Above how many queued bytes a stream counts as full.
    public var sendHighWater = 1024 * 1024
    /// At how many queued bytes a full stream is reported `.writable`.
    public var sendLowWater = 256 * 1024
    /// Answers and refusals that may wait to be sent; a peer that causes more without reading is cut off.
    public var maximumQueuedControlFrames = 512
    /// Which library encrypts.
    public var cipher: RecordCipherChoice = .automatic

    public init() {}
}

/// Which library encrypts records. Both produce the same bytes.
public enum RecordCipherChoice: Hashable, Sendable {
    /// libsodium for small records, OpenSSL for those where it is faster.
    case automatic
    /// libsodium for all.
    case libsodium
}
