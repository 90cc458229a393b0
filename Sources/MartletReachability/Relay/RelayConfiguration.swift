public import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// What a relay offers, to whom and how much of it. Each limit has a name that answers and logs repeat.
public struct RelayConfiguration: Sendable {
    /// Peers that may be reached through this relay at one time.
    public var maximumReservations = 4096
    /// Reservations from one range of addresses: one attacker has many peer ids, but not many networks. Loopback does not
    /// count.
    public var maximumReservationsPerRange = 64
    /// How many leading bits of an IPv4 address make a range.
    public var ipv4RangeLength = 24
    /// How many leading bits of an IPv6 address make a range: 48 is what a site gets.
    public var ipv6RangeLength = 48
    /// How long a reservation holds unless it is renewed.
    public var reservationLifetime = Duration.seconds(3600)

    /// Circuits, those still being made included.
    public var maximumCircuits = 1024
    /// Circuits from one peer, and circuits to one peer.
    public var maximumCircuitsPerPeer = 64
    /// Circuits from one range of addresses.
    public var maximumCircuitsPerRange = 256

    /// How long a peer may take to accept a circuit. Well below the 10 s after which a caller that heard nothing gives up, and
    /// does not know then whether it was the relay or the peer that was silent.
    public var answerTimeout = Duration.seconds(6)

    /// What a circuit may last and carry in each direction; nil lifts the limits, and peers are told of none.
    public var circuitLimit: ConnectionLimit? = ConnectionLimit(duration: .seconds(3600), byteCount: 1 << 30)
    /// Bytes a second that a circuit carries in each direction on average; nil for as many as come.
    public var circuitRate: Int?
    /// Bytes a second that all circuits carry together; nil for as many as come.
    public var totalRate: Int?
    /// Bytes that a circuit may queue in each direction before it slows its sender down.
    public var circuitQueue = 256 * 1024
    /// How far the receive window of a circuit may grow: what its sender may have under way, and so what waits here at most,
    /// beside `circuitQueue`, when the receiver stalls. 16 MiB fill 1 Gbit/s over a round trip of 100 ms to the relay; windows grow
    /// no further than a path needs, and all together within what a connection and a node allow.
    public var circuitWindow = 16 * 1024 * 1024
    /// How long a circuit may move nothing once one of its sides has said that it sends nothing more; then it is cut.
    public var halfClosedTimeout = Duration.seconds(60)

    /// How connections to clients are kept alive while no circuit goes over them. Martlet's clients ask often enough themselves,
    /// so that the relay has only to answer.
    public var keepAlive = KeepAlive(interval: .seconds(8), deadAfter: .seconds(15))

    /// The only peers that may reserve and connect; nil lets everybody.
    public var allowedPeers: Set<PeerID>?
    /// Decides on each request that the limits and `allowedPeers` let through. Called on an event loop: it must not block.
    public var allows: (@Sendable (RelayRequest) -> Bool)?

    public init() {}

    /// Limits of a swarm that can hold this relay's clients.
    public func widened(_ limits: SwarmLimits) -> SwarmLimits {
        var limits = limits
        limits.maximumConnections = max(limits.maximumConnections, maximumReservations + 1024)
        limits.highWaterConnections = max(limits.highWaterConnections, maximumReservations + 768)
        limits.lowWaterConnections = max(limits.lowWaterConnections, maximumReservations + 512)
        limits.maximumInboundPerAddress = max(limits.maximumInboundPerAddress, maximumReservationsPerRange + 64)
        limits.maximumPeersKnown = max(limits.maximumPeersKnown, 2 * maximumReservations)
        return limits
    }
}

/// What a peer asks of a relay.
public enum RelayRequest: Hashable, Sendable {
    /// To be reached through it.
    case reserve(PeerID, at: Multiaddr)
    /// To be connected to a peer that holds a reservation.
    case connect(PeerID, at: Multiaddr, to: PeerID)
}
