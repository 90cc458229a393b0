public import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletReachability
public import MartletSwarm

/// A node without its I/O: every machine of a node, composed. The libuv driver and the simulator both run this.
///
/// The engine knows nothing of sockets, threads or clocks. Its owner feeds it what happened, drains `nextOrder()` and carries
/// the orders out; connections made by `factory` live with the owner, who reports their events here.
public final class NodeEngine {
    /// What an engine is made from.
    public struct Configuration: Sendable {
        public var network = "martlet/1.0.0"
        /// Whether peers of other networks are sent away.
        public var isNetworkExclusive = false
        public var agentVersion = "martlet/" + Martlet.version
        public var limits = SwarmLimits()
        public var dialing = DialSettings()
        public var connection = ConnectionConfiguration()
        public var streams = PeerConnectionSettings()
        /// The receive windows of all connections together, in bytes.
        public var windowBudget = 1 << 30
        /// Whether the perf protocol is served: it costs whatever a peer asks.
        public var servesPerf = false
        /// Relays to be reachable through.
        public var relays: [Multiaddr] = []
        public var reservations = RelayReservationSettings()

        public init() {}
    }

    public let local: LocalPeer
    public let swarm: Swarm
    public let factory: ConnectionFactory
    /// Where peers see this node's sockets.
    public var observed = ObservedAddresses()
    public private(set) var announced = AnnouncedAddresses()
    /// The node's own reservations, at the relays that it was given.
    public var reservations: RelayReservations

    /// - Parameter wallTime: what the wall clock shows at `now`. It also numbers the signed peer records, which must grow
    ///   from run to run.
    public init(
        identity: KeyPair, configuration: Configuration, random: inout RandomSource, now: Instant, wallTime: WallTime
    ) {
        let protocols = ProtocolTable()
        local = LocalPeer(
            identity: identity, network: configuration.network, agentVersion: configuration.agentVersion,
            protocols: protocols, sequence: UInt64(max(0, wallTime.nanosecondsSince1970)))
        swarm = Swarm(
            local: local, limits: configuration.limits, dialSettings: configuration.dialing,
            isNetworkExclusive: configuration.isNetworkExclusive, random: random.split(), now: now, wallTime: wallTime)
        factory = ConnectionFactory(
            local: local, noiseIdentity: NoiseIdentity(identity: identity, random: &random),
            configuration: configuration.connection, settings: configuration.streams,
            budget: WindowBudget(limit: configuration.windowBudget))
        reservations = RelayReservations(
            relays: configuration.relays, local: identity.peerID, settings: configuration.reservations,
            random: random.split(), now: now, wallTime: wallTime)
        registerBuiltIns(servesPerf: configuration.servesPerf)
    }

    /// Changes what the node says of where it can be reached; peers are told when that makes a difference. Whoever knows
    /// addresses (listeners, relays, AutoNAT) sets its own part.
    public func announce(_ change: (inout AnnouncedAddresses) -> Void) {
        change(&announced)
        swarm.setListenAddresses(announced.addresses)
    }

    private func registerBuiltIns(servesPerf: Bool) {
        let protocols = local.protocols
        Identify.register(in: protocols)
        protocols.register(Ping.protocolID, .init(streamLimit: Ping.inboundStreamLimit) { _ in PingResponder() })
        if servesPerf {
            protocols.register(Perf.protocolID, .init(streamLimit: 8) { _ in PerfResponder() })
        }
    }
}

/// Names of this release.
public enum Martlet {
    public static let version = "0.1.0"
}
