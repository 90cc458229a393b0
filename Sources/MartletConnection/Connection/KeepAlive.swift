/// When a connection asks a silent peer whether it is there, and when it gives it up.
public struct KeepAlive: Hashable, Sendable {
    /// After how long without a byte from the peer a ping is sent; nil for never.
    public var interval: Duration?
    /// After how long without a byte from the peer the connection counts as dead; nil for never.
    public var deadAfter: Duration?

    public init(interval: Duration?, deadAfter: Duration?) {
        self.interval = interval
        self.deadAfter = deadAfter
    }
}

extension ConnectionConfiguration {
    /// How a connection is kept alive unless it is told otherwise.
    public var keepAlive: KeepAlive { KeepAlive(interval: keepAliveInterval, deadAfter: deadAfter) }

    /// How long a peer has for an answer when there is reason to doubt that it is still there; nil when silence ends no
    /// connection.
    public var probeTime: Duration? {
        guard let deadAfter, let keepAliveInterval, deadAfter > keepAliveInterval else { return deadAfter }
        return deadAfter - keepAliveInterval
    }
}
