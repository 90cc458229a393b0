import MartletCore

/// What a node lets peers make it spend. Each limit has a name that errors repeat.
public struct SwarmLimits: Sendable {
    /// No connection is made or taken beyond this.
    public var maximumConnections = 4096
    /// Above the high mark the least useful connections are closed until the low mark is reached.
    public var highWaterConnections = 900
    public var lowWaterConnections = 700
    /// New connections are not trimmed for this long, except those that have not proved who they are.
    public var gracePeriod = Duration.seconds(20)
    public var maximumConnectionsPerPeer = 8
    /// Inbound connections whose handshake is not done.
    public var maximumPendingInbound = 256
    /// Connections from one IP address, loopback excepted.
    public var maximumInboundPerAddress = 64
    public var maximumPendingDials = 256
    public var maximumPeersKnown = 10_000

    public init() {}
}

/// How a node dials.
public struct DialSettings: Sendable {
    /// For one address, until the peer has proved who it is.
    public var attemptTimeout = Duration.seconds(10)
    /// For the whole dial, name look-ups included.
    public var timeout = Duration.seconds(30)
    /// For one address of a machine that has refused at another: a process that ended refuses over TCP, and is silent over
    /// QUIC.
    static let refusedHostTimeout = Duration.seconds(3)
    /// How long after a relay failed it is asked again. A peer that lost its relay is back there in about half a second.
    static let relayRepeatDelay = Duration.milliseconds(800)

    /// Up to a quarter less, so that those who lost the same relay do not come back in step.
    func repeatDelay(_ random: inout RandomSource) -> Duration {
        Self.relayRepeatDelay * Double.random(in: 0.75...1, using: &random)
    }

    public init() {}
}
