/// What peers may make a node spend on calls. Each limit has a name that errors repeat.
public struct RPCLimits: Sendable {
    /// One message, in bytes, in either direction.
    public var messageSize = 64 << 20
    /// Calls of one session that are not over, those included whose handler runs on after a cancellation.
    public var callsPerSession = 16_384
    /// Bytes of messages received in one session that no handler or caller has taken yet.
    public var bufferedBytesPerSession = 256 << 20
    /// How far one call's window may grow, in bytes.
    public var callWindow = 4 << 20
    /// Bytes that one call may have queued before its writer waits.
    public var queuedBytesPerCall = 256 << 10
    /// Sessions that one peer may have here, and that all peers together may have. The oldest that are cut off go first.
    public var sessionsPerPeer = 8
    public var sessions = 4096
    /// How long a session whose connection was lost waits for another: so long a call without a deadline waits for a peer that
    /// vanished without a word. (A call to a shard waits only if it may have run and is not idempotent.)
    public var resumeWindow = Duration.seconds(30)
    /// After how long without a call a caller gives its session up, so that the connection may go.
    public var idleSessionLifetime = Duration.seconds(60)
    /// Names and values of a call's metadata together, in bytes.
    public var metadataSize = 16 << 10
    /// The longest `Service.method`, in bytes of UTF-8.
    public var methodNameSize = 255
    /// An error's text, and its details, in bytes.
    public var errorTextSize = 4 << 10
    public var errorDetailsSize = 64 << 10
    /// Frames, and bytes, that one lane keeps for a peer that has not acknowledged them; then it stops sending.
    public var unacknowledgedFrames = 32_768
    public var unacknowledgedBytes = 16 << 20

    public init() {}
}
