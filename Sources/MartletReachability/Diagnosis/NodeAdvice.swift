/// What keeps strangers from reaching a node, and what a person can do about it.
public struct NodeAdvice: Hashable, Sendable {
    /// What is known of the node.
    public struct Situation: Hashable, Sendable {
        /// Whether strangers reach it directly, by what is known.
        public var isReached = false
        /// Whether it is reached through a relay.
        public var isRelayed = false
        /// Whether it listens at all, and the ports where others than this machine can reach it, as a person forwards them
        /// (`UDP port 4001`).
        public var listens = false
        public var ports: [String] = []
        public var udp: NATBehavior?
        /// Peers that were asked by UDP, to be named where it is blocked.
        public var servers: [String] = []
        public var outerNAT: OuterNAT?
        public var hasForwardedPort = false
        /// Why no gateway forwards a port.
        public var forwardingFailures: [String] = []
        /// Whether strangers were seen not to get in at IPv6 addresses of this machine.
        public var isIPv6Filtered = false

        public init() {}
    }

    /// What is in the way, a sentence each.
    public private(set) var reasons: [String] = []
    /// What helps, the easiest first.
    public private(set) var remedies: [String] = []

    public init(_ situation: Situation) {
        guard !situation.ports.isEmpty else {
            reasons.append(
                situation.listens ? "This node listens to this machine alone." : "This node listens nowhere.")
            remedies.append("Start it with --listen, for instance /ip4/0.0.0.0/udp/4001/quic-v1.")
            return
        }
        explainUDP(situation)
        guard !situation.isReached else { return }
        explainNAT(situation)
        if situation.isIPv6Filtered {
            reasons.append(
                "This machine has an IPv6 address of the internet, but a firewall does not let strangers in.")
            remedies.append(
                "Allow \(situation.ports.joined(separator: " and ")) in to this machine by IPv6 on the router, or turn on PCP or UPnP there."
            )
        }
        if !situation.isRelayed {
            remedies.append(
                "Start the node with --relay: through a relay, peers reach it whatever its network is like.")
        }
    }

    private mutating func explainUDP(_ situation: Situation) {
        guard let udp = situation.udp, !udp.isAnswered else { return }
        reasons.append(
            "UDP does not get through: peers that are connected by TCP do not answer by UDP. A firewall of this network seems to drop it."
        )
        let places = situation.servers.isEmpty ? "" : ", at least to \(situation.servers.joined(separator: " and "))"
        remedies.append(
            "Allow UDP out on the firewall\(places), and the answers in: QUIC and most direct connections need it.")
    }

    private mutating func explainNAT(_ situation: Situation) {
        let port = situation.ports.joined(separator: " and ")
        let kind = situation.udp?.kind ?? NATKind()
        if situation.udp?.isAnswered == true, kind.filtering == .unknown {
            reasons.append(
                "Whether strangers get in is not known: a peer would have to tell that this node has sent nothing to, and there is none."
            )
            remedies.append(
                "Connect to a second peer on the internet (--peer), or to one with several addresses: then this node finds out by itself."
            )
        }
        if kind.mapping == .none, situation.outerNAT == nil {
            guard kind.filtering != .endpointIndependent else { return }
            reasons.append("This machine has an address of the internet, but a firewall does not let strangers in.")
            remedies.append("Allow \(port) in on the firewall.")
            return
        }
        switch situation.outerNAT {
        case .carrier:
            reasons.append(
                "The provider's own NAT (carrier-grade NAT) lies in front of this network's router: many customers share one address."
            )
            remedies.append(
                "Ask the provider for a public IPv4 address, or use IPv6; a port forwarded on the router does not help."
            )
        case .router:
            reasons.append("A second router that translates addresses lies in front of this network's own.")
            remedies.append(
                "Forward \(port) on both routers, or have one of them only pass on what comes (bridge mode).")
        case nil:
            guard !situation.hasForwardedPort else { return }
            if !situation.forwardingFailures.isEmpty {
                reasons.append("The router forwards no port by itself.")
                remedies.append("Turn on UPnP, NAT-PMP or PCP on the router.")
            }
            remedies.append("Forward \(port) to this machine on the router by hand.")
        }
    }
}
