public import MartletCore
public import MartletIdentity

/// What a connection tells its owner.
@frozen
public enum ConnectionEvent: Sendable {
    /// The peer has proven who it is and streams can be opened. Comes before every stream event.
    indirect case established(RemoteIdentity)
    /// The peer opened a stream. The owner takes it, or refuses it with `reset`.
    case inboundStream(StreamID)
    /// Bytes of a stream, in order. `consumed` gives the peer credit for more.
    case data(StreamID, Bytes)
    /// The peer will send nothing more on the stream.
    case remoteFinished(StreamID)
    /// The peer ended the stream at once, in both directions. The last event of the stream.
    case streamReset(StreamID)
    /// Both directions have finished. The last event of the stream.
    case streamClosed(StreamID)
    /// What is queued fell to `sendLowWater` after having been above `sendHighWater`.
    case writable(StreamID)
    /// The time a ping took to the peer and back.
    case roundTrip(Duration)
    /// The connection has ended, and all its streams with it. The last event, and it comes exactly once.
    indirect case closed(ConnectionCloseReason)
}

/// Who is at the other end, and how that was agreed on.
public struct RemoteIdentity: Hashable, Sendable {
    public var peerID: PeerID
    public var publicKey: PublicKey
    /// The protocol id of the stream muxer, such as `/yamux/1.0.0`.
    public var muxer: String
    /// Whether the muxer was agreed on inside the handshake, which saves a round trip.
    public var earlyMuxer: Bool

    public init(peerID: PeerID, publicKey: PublicKey, muxer: String, earlyMuxer: Bool) {
        self.peerID = peerID
        self.publicKey = publicKey
        self.muxer = muxer
        self.earlyMuxer = earlyMuxer
    }
}
