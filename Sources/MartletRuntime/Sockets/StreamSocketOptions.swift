/// How a stream socket behaves.
public struct StreamSocketOptions: Sendable {
    /// How long a connect may take.
    public var connectTimeout = Duration.seconds(10)
    /// How long a graceful close may take to send what was pending and to see the other side's end.
    public var lingerTime = Duration.seconds(2)
    /// Bytes read from one socket before the others of its loop get their turn.
    public var readBudget = 256 * 1024
    /// Bytes of the kernel's buffers; nil leaves them to its autotuning, which is better on every path measured so far.
    public var sendBufferSize: Int?
    public var receiveBufferSize: Int?
    /// How congestion is controlled on long paths where the kernel can, by its name for it. The usual CUBIC takes every lost packet
    /// for a full queue: with one in a thousand lost it does not get beyond some MB/s where BBR fills the link.
    public var longPathControl: String? = "bbr"
    /// The round trip from which on a path is long.
    public var longPathRoundTrip = Duration.milliseconds(5)

    public init() {}
}
