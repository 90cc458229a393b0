public import Logging
public import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletQUIC
public import MartletRPC
public import MartletReachability
public import MartletSwarm

/// How a node is set up. Everything has a default that suits a program on one machine.
public struct NodeConfiguration: Sendable {
    /// Who the node is. Nil takes the key in the data directory, or makes one there; without a data directory, a fresh one.
    public var identity: KeyPair?
    /// Where the node keeps its key, its peers and its index of shared files. Nil keeps nothing.
    public var dataDirectory: String?
    /// The passphrase of the key file, when it has one.
    public var passphrase: String?
    /// Addresses to accept connections at, such as `/ip4/0.0.0.0/tcp/4001`. Port 0 takes a free one.
    public var listenAddresses: [Multiaddr] = []
    /// Addresses that others reach this node at although it cannot see them itself, as behind a load balancer or a port that was
    /// forwarded by hand. They are told to peers before all others.
    public var announceAddresses: [Multiaddr] = []
    /// Peers to stay connected to, as addresses; with `/p2p/…` at the end only that peer is accepted.
    public var peers: [Multiaddr] = []
    /// Relays to be reached through by those who cannot reach this node otherwise: circuit relays of libp2p, version 2. The node
    /// keeps a reservation at each and announces addresses there, the nearest first.
    public var relays: [Multiaddr] = []
    /// Times of the reservations.
    public var reservations = RelayReservationSettings()
    /// The name of the mesh. When it is set, peers that name another are sent away; when nil, everybody is welcome.
    public var network: String?
    /// Whether peers that name another network than `network` are sent away. Without a `network` it means nothing.
    public var isNetworkExclusive = true
    /// Event loops to spread connections over; nil takes one for each core, at most 8.
    public var loopCount: Int?
    /// How long a loop that just had work keeps looking for more before it sleeps. It saves the time that waking a processor
    /// takes there and back (50 to 100 µs of a virtual machine); looking that is in vain soon stops. Zero on machines that run
    /// many nodes.
    public var spin: Duration = .microseconds(100)
    public var limits = SwarmLimits()
    public var dialing = DialSettings()
    public var connection = ConnectionConfiguration()
    /// How long a peer may take to agree on a stream's protocol, to identify itself, and to ask or answer as a relay or its
    /// client.
    public var streamTimeout = Duration.seconds(10)
    /// How long a connection that was replaced by a better one, such as a relayed one by a direct one, stays without streams.
    public var retirementDelay = Duration.seconds(2)
    /// What peers may make the node spend on calls.
    public var rpc = RPCLimits()
    /// Whether the node tries to replace connections through relays by direct ones.
    public var punchesHoles = true
    /// What that may send and keep.
    public var punching = PunchLimits()
    /// Whether the node speaks QUIC. When not, it listens at no such address and dials none.
    public var usesQUIC = true
    /// Limits of QUIC beside those of `connection`.
    public var quic = QUICConfiguration()
    /// Whether the gateway is asked to forward the ports that the node listens at (PCP, NAT-PMP or UPnP), when it listens at
    /// other than loopback addresses and the machine has no public address of its own.
    public var mapsPorts = true
    /// How the node finds out whether strangers reach it.
    public var autoNAT = AutoNATSettings()
    /// Whether peers may measure throughput with the perf protocol.
    public var servesPerf = false
    /// What the node offers as a relay to peers that cannot be reached directly; nil for nothing. It also widens `limits` so that
    /// all its clients can be connected.
    public var relay: RelayConfiguration?
    /// Gets all that happens to the node from its start on, and is finished when the node stops. What subscribes after the start
    /// may be too late for the first connections.
    public var events: AsyncStream<NodeEvent>.Continuation?
    public var logger: Logger

    public init() {
        logger = Logger(label: "martlet")
        logger.logLevel = .warning
    }
}
