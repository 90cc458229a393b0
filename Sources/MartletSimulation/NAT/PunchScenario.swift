import MartletCore
public import MartletReachability

/// Two nodes behind NATs, connected through a relay, get a direct connection, or do not.
///
/// The machines of the punch are those of a real node; NATs, clock, wire and randomness are simulated. From the same seed a
/// scenario runs the same way.
public struct PunchScenario: Sendable {
    /// The dialing side's NAT, and the other's.
    public var dialer: NATSpecification
    public var listener: NATSpecification
    public var seed: UInt64
    /// From a node to the internet and back it takes twice this.
    public var uplink = Duration.milliseconds(20)
    public var loss = 0.0
    /// A NAT of a carrier in front of both, or of each.
    public var carrier: NATSpecification?
    /// Both behind the same carrier NAT rather than each behind its own.
    public var sharesCarrier = false
    /// Both in one home: the dialer's NAT is the listener's too.
    public var sharesHome = false

    public struct Result: Hashable, Sendable {
        /// Whether both sides have a direct connection.
        public var isDirect: Bool
        /// From the relayed connection until both sides have it.
        public var duration: Duration?
        /// What the dialer has to tell.
        public var report: PunchReport?
        public var eventCount: Int
    }

    public init(dialer: NATSpecification, listener: NATSpecification, seed: UInt64) {
        self.dialer = dialer
        self.listener = listener
        self.seed = seed
    }

    /// How long the longest punch takes.
    private static let limit = Duration.seconds(60)
    /// Time to learn about the own NAT before anybody calls.
    private static let settling = Duration.seconds(2)

    public func run() -> Result {
        let network = PunchNetwork(seed: seed, loss: loss)
        let relay = PunchHost(network, address: Self.ip(11, 7, 0, 1), router: nil, uplink: .zero)
        let shared = carrier.map {
            NATBox($0, address: Self.ip(11, 7, 0, 9), random: network.random.split())
        }
        let left = host(network, 1, dialer, shared, nil)
        let right = host(network, 2, listener, shared, sharesHome ? left.router : nil)
        left.peer = right
        right.peer = left
        left.relayDelay = uplink * 2
        right.relayDelay = uplink * 2
        left.ask([relay.mainAddress])
        right.ask([relay.mainAddress])
        network.run(for: Self.settling)
        let began = network.now
        right.begin(isDialer: false)
        left.begin(isDialer: true)
        network.run(for: Self.limit) { left.isOver && right.isOver }
        let ends = [left.connectedAt, right.connectedAt].compactMap(\.self)
        return Result(
            isDirect: ends.count == 2, duration: ends.count == 2 ? ends.max().map { $0 - began } : nil,
            report: left.report, eventCount: network.eventCount)
    }

    private func host(
        _ network: PunchNetwork, _ number: UInt8, _ specification: NATSpecification, _ shared: NATBox?,
        _ home: NATBox?
    ) -> PunchHost {
        guard specification.translates else {
            let address = Self.ip(11, 7, number, 1)
            let isOpen = specification.filtering == .endpointIndependent
            let router = isOpen ? nil : NATBox(specification, address: address, random: network.random.split())
            return PunchHost(network, address: address, router: router, uplink: uplink)
        }
        if let home {
            return PunchHost(network, address: Self.ip(192, 168, 1, 10 + number), router: home, uplink: uplink)
        }
        var parent: NATBox?
        if let carrier {
            parent =
                sharesCarrier
                ? shared
                : NATBox(carrier, address: Self.ip(11, 7, number, 2), random: network.random.split())
        }
        let outside = parent == nil ? Self.ip(11, 7, number, 1) : Self.ip(100, 64, number, 1)
        let router = NATBox(specification, address: outside, parent: parent, random: network.random.split())
        return PunchHost(
            network, address: Self.ip(192, 168, sharesHome ? 1 : number, 10 + number), router: router, uplink: uplink)
    }

    private static func ip(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> IPAddress { .v4(IPv4Address(a, b, c, d)) }
}
