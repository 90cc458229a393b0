/// Limits and times of a QUIC endpoint, beside those of `ConnectionConfiguration`. `maximumHandshakes`, `retryThreshold`,
/// `maximumConnections` and `resetsPerSecond` are for all endpoints of a `QUICEndpointGroup` together.
public struct QUICConfiguration: Sendable {
    /// Server connections whose handshake is under way; beyond that new ones are dropped until some are done.
    public var maximumHandshakes = 1024
    /// From how many such connections on new ones must first show, by a Retry, that their address is theirs.
    public var retryThreshold = 256
    /// Connections in all; beyond that new ones are dropped.
    public var maximumConnections = 65_536
    /// How long the token of a Retry is good.
    public var retryLifetime = Duration.seconds(15)
    /// Answers to packets that belong to no connection (stateless resets, version negotiation, Retry) that may wait to be sent.
    public var maximumQueuedAnswers = 64
    /// Datagrams that came to one of several endpoints of an address, are for another, and may wait to be handed over.
    public var maximumForwards = 256
    /// Stateless resets in a second: each answers a packet that anybody can forge. Also how many datagrams that may be resets, from an
    /// address of connections at several endpoints, are shown to all of these.
    public var resetsPerSecond = 200
    /// The round trip assumed before one is known. A lost first packet is sent again after three of them.
    public var initialRoundTrip = Duration.milliseconds(100)
    /// How long a peer may be silent as QUIC tells it; `ConnectionConfiguration.deadAfter` is usually shorter.
    public var idleTimeout = Duration.seconds(30)
    /// The longest datagram that is sent where the path carries it.
    public var maximumDatagramSize = 8952
    /// Controls congestion by BBR instead of CUBIC, which takes every lost packet for a full queue: on a simulated link of 100 Mbit/s,
    /// 100 ms and one packet in a thousand lost a stream has 75 % of the link with the one and 6 % with the other; without loss 79 %
    /// with both.
    public var usesBBR = true

    public init() {}
}
