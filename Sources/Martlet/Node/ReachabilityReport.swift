public import MartletCore
public import MartletReachability
import MartletRuntime

/// What a node knows of how it can be reached.
public struct ReachabilityReport: Sendable {
    /// One listening socket.
    public struct Socket: Sendable {
        public let listener: Multiaddr
        /// Whether this machine has an address beyond its own network of the family that the socket is of: most have none of IPv6.
        public let hasAddress: Bool
        public let nat: NATKind
        /// Where peers see it.
        public let seenAt: [ObservedAddresses.Candidate]
    }

    public struct ForwardedPort: Sendable {
        public let target: PortMappingTarget
        public let method: PortMappingMethod
        /// The gateway's address outside, when it said so, and the port there.
        public let externalAddress: IPAddress?
        public let externalPort: UInt16
        /// Where it leads to this node from.
        public let addresses: [Multiaddr]
        /// Nil until the gateway restarts.
        public let expiresIn: Duration?

        /// Whether another NAT lies in front of the gateway: its address outside is none of the internet.
        public var isBehindAnotherNAT: Bool {
            externalAddress.map { $0.scope == .privateNetwork || $0.scope == .carrierNAT } ?? false
        }
    }

    public let sockets: [Socket]
    /// What was found of the NATs and firewalls in front of this machine for UDP by IPv4; nil while nobody could be asked.
    public let udp: NATBehavior?
    /// The peers that were asked for that.
    public let udpServers: [TransportAddress]
    /// A NAT in front of this machine's own router, when something speaks for one.
    public let outerNAT: OuterNAT?
    /// Whether more is about to be known.
    public let isLearning: Bool
    public let addresses: [AddressReachability]
    /// What peers are told.
    public let announced: [Multiaddr]
    public let forwardedPorts: [ForwardedPort]
    /// Why no gateway forwards a port, way by way.
    public let forwardingFailures: [String]
    /// What routers let in by IPv6 because this node asked; the addresses outside are those of this machine.
    public let pinholes: [ForwardedPort]
    /// Why no router lets anything in, way by way.
    public let pinholeFailures: [String]
    public let relays: [ReservationStatus]
    /// What the kernel keeps for the node's UDP sockets; nil while there is none.
    public let datagramBuffers: DatagramBuffers?
}

extension Node {
    /// What is known of this node's NAT, of the ports that its gateway forwards, and of its addresses and relays.
    public func reachabilityReport() async throws -> ReachabilityReport {
        try await driver.onHome { driver in
            let now = driver.home.now
            return ReachabilityReport(
                sockets: driver.boundListeners.map { listener in
                    .init(
                        listener: listener, hasAddress: LocalAddresses.hasAddress(at: listener),
                        nat: driver.reachability.natKind(of: listener),
                        seenAt: driver.engine.observed.candidates(of: listener))
                },
                udp: driver.reachability.discoverer.behavior(isIP4: true),
                udpServers: driver.reachability.discoverer.servers(isIP4: true),
                outerNAT: driver.reachability.outerNAT, isLearning: driver.reachability.isLearning,
                addresses: driver.reachability.addresses, announced: driver.engine.announced.addresses,
                forwardedPorts: driver.forwardedPorts(driver.reachability.mapper.mappings, now: now),
                forwardingFailures: driver.reachability.mapper.failures,
                pinholes: driver.forwardedPorts(driver.reachability.pinholes.mappings, now: now),
                pinholeFailures: driver.reachability.pinholes.failures,
                relays: driver.engine.reservations.statuses, datagramBuffers: driver.quic?.buffers.smallest)
        }
    }
}

extension NodeDriver {
    fileprivate func forwardedPorts(_ mappings: [PortMapping], now: Instant) -> [ReachabilityReport.ForwardedPort] {
        mappings.map { mapping in
            .init(
                target: mapping.target, method: mapping.method, externalAddress: mapping.externalAddress,
                externalPort: mapping.externalPort, addresses: reachability.addresses(of: mapping),
                expiresIn: mapping.expiresAt.map { $0 - now })
        }
    }
}
