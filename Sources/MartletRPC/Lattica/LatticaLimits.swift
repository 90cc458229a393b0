/// What peers may make a node spend on calls in Lattica's protocols. Errors repeat a limit's name.
public struct LatticaLimits: Sendable {
    /// The protocol sends arguments and results in frames of at most so many bytes of payload.
    public static let framePayloadSize = 16 << 20

    /// One frame of the stream protocol, in bytes: a full payload and room for what is around it.
    public var frameSize = framePayloadSize + 4096
    /// One argument or one result, in bytes. The unary protocol itself knows no bound.
    public var messageSize = 256 << 20
    /// Bytes of arguments that wait or are with handlers, for one peer and for all together.
    public var bufferedBytesPerPeer = 512 << 20
    public var bufferedBytes = 2 << 30
    /// Calls that are not over on one inbound stream.
    public var callsPerStream = 1024
    /// Inbound streams of the stream protocol, and of unary calls, on one connection at a time.
    public var inboundStreams = 64
    public var inboundUnaryCalls = 256
    /// Outbound streaming calls to one peer at a time, each on a stream of its own; further ones wait.
    public var outboundStreams = 64
    /// Outbound unary calls to one peer at a time; further ones wait. A Lattica node drops what is beyond 100, and counts a
    /// call for a moment longer than its caller does.
    public var outboundUnaryCalls = 64
    /// A call's id, its `Service.method` and the text of an error, in bytes of UTF-8.
    public var idSize = 256
    public var methodNameSize = 1024
    public var errorTextSize = 1 << 20
    /// How long a call may take, on both sides; for a stream of items, how long the next item may take.
    public var timeout = Duration.seconds(180)
    /// How long a stream is kept for the end of a call that was cancelled.
    public var cancellationTimeout = Duration.seconds(10)
    /// Bytes of replies that one inbound stream may have queued before its handlers wait.
    public var queuedReplyBytes = 1 << 20

    public init() {}
}
