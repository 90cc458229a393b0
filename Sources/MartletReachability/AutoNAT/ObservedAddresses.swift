public import MartletCore
public import MartletSwarm

/// What peers say about where this node's packets come from: identify's `observedAddr`, for each listening socket.
///
/// A peer can say anything. An address counts as confirmed when peers in several networks agree on it, and the number of
/// observations is limited. That an address was observed does not mean that strangers can reach it: AutoNAT finds that out.
public struct ObservedAddresses: Sendable {
    public struct Configuration: Sendable {
        /// Observers in different networks (/24 or /48) that make an address confirmed.
        public var confirmations = 2
        /// How long an observation counts after its connection closed.
        public var retention = Duration.seconds(600)
        /// Observations kept, the oldest closed ones going first.
        public var maximumObservations = 256

        public init() {}
    }

    /// One peer's word over one connection.
    struct Observation: Sendable {
        let connection: ConnectionID
        /// The listening socket whose port the connection uses at this end.
        let listener: Multiaddr
        let observed: Endpoint
        let observer: Endpoint
        /// Whether this node began: the other's packets may have come in through a mapping made otherwise.
        let isOutbound: Bool
        let openedAt: Instant
        var closedAt: Instant?

        /// Whether both connections were there at the same time: a NAT forgets mappings that nobody uses.
        func overlaps(_ other: Observation) -> Bool {
            openedAt <= (other.closedAt ?? .distantFuture) && other.openedAt <= (closedAt ?? .distantFuture)
        }
    }

    /// An IP address and a port.
    struct Endpoint: Hashable, Comparable, Sendable {
        let ip: IPAddress
        let port: UInt16

        init?(_ address: Multiaddr) {
            guard !address.isCircuit, let ip = address.ipAddress?.unmapped, let port = address.port else { return nil }
            self.ip = ip
            self.port = port
        }

        static func < (left: Endpoint, right: Endpoint) -> Bool { (left.ip, left.port) < (right.ip, right.port) }
    }

    /// An address at which peers see one of the sockets.
    public struct Candidate: Hashable, Sendable {
        public let address: Multiaddr
        /// The listening socket behind it, as it is bound.
        public let listener: Multiaddr
        /// The number of different networks whose peers see it.
        public let observerCount: Int
        public let isConfirmed: Bool
    }

    public let configuration: Configuration
    /// The IP addresses of this machine's interfaces: who is seen at one of them is not behind a NAT.
    public var localAddresses: Set<IPAddress> = []
    private(set) var observations: [Observation] = []

    public init(configuration: Configuration = Configuration()) {
        self.configuration = configuration
    }

    // MARK: Input

    /// A peer said at which address it sees this node.
    ///
    /// - Parameters:
    ///   - listener: the bound address of the listening socket that the connection uses at this end: came in on, or was dialed
    ///     from. A connection from a port of its own says nothing of any listener and must not be told here.
    ///   - remoteAddress: the peer's address.
    public mutating func observed(
        _ address: Multiaddr, at listener: Multiaddr, by remoteAddress: Multiaddr, over connection: ConnectionID,
        isOutbound: Bool, now: Instant
    ) {
        guard let observer = Endpoint(remoteAddress), let endpoint = Endpoint(address),
            address.withoutPeerID.transportKind == listener.transportKind, isPlausible(endpoint, seenBy: observer)
        else { return }
        let earlier = observations.first { $0.connection == connection }
        observations.removeAll { $0.connection == connection }
        forget(now: now)
        guard makeRoom() else { return }
        observations.append(
            Observation(
                connection: connection, listener: listener, observed: endpoint, observer: observer,
                isOutbound: isOutbound,
                // Another word over the same connection is about a mapping that is new now.
                openedAt: earlier?.observed == endpoint ? earlier?.openedAt ?? now : now))
    }

    /// A connection closed: its observation counts for a while.
    public mutating func connectionClosed(_ connection: ConnectionID, now: Instant) {
        guard let index = observations.firstIndex(where: { $0.connection == connection }) else { return }
        observations[index].closedAt = now
        forget(now: now)
    }

    /// The machine is in another network, of which nothing that was seen before says anything.
    public mutating func networkChanged() { observations = [] }

    /// The NAT does not have this address any more.
    public mutating func addressLost(_ ip: IPAddress) { observations.removeAll { $0.observed.ip == ip } }

    /// Forgets what is too old.
    public mutating func forget(now: Instant) {
        observations.removeAll { observation in
            observation.closedAt.map { now - $0 >= configuration.retention } ?? false
        }
    }

    private mutating func makeRoom() -> Bool {
        guard observations.count >= configuration.maximumObservations else { return true }
        guard
            let oldest = observations.indices.filter({ observations[$0].closedAt != nil }).min(by: {
                (observations[$0].closedAt ?? .distantFuture) < (observations[$1].closedAt ?? .distantFuture)
            })
        else { return false }
        observations.remove(at: oldest)
        return true
    }

    /// A peer on the internet cannot see a private address, and nobody sees one that is no address of a host.
    private func isPlausible(_ observed: Endpoint, seenBy observer: Endpoint) -> Bool {
        guard observed.port != 0 else { return false }
        switch observed.ip.scope {
        case .global: return true
        case .privateNetwork, .carrierNAT: return observer.ip.scope != .global
        case .loopback, .linkLocal, .unspecified, .multicast, .reserved: return false
        }
    }

    // MARK: Answers

    /// Where peers see the sockets, addresses with the most observers first. Without those of this machine itself.
    public func candidates(of listener: Multiaddr? = nil) -> [Candidate] {
        var observers: [Seen: Set<IPAddress>] = [:]
        for observation in observations where listener == nil || observation.listener == listener {
            guard !localAddresses.contains(observation.observed.ip) else { continue }
            observers[Seen(listener: observation.listener, at: observation.observed), default: []]
                .insert(observation.observer.ip.network)
        }
        return observers.sorted { left, right in
            if left.value.count != right.value.count { return left.value.count > right.value.count }
            return left.key < right.key
        }
        .compactMap { seen, networks in
            guard let address = seen.address else { return nil }
            return Candidate(
                address: address, listener: seen.listener, observerCount: networks.count,
                isConfirmed: networks.count >= configuration.confirmations)
        }
    }

    /// Where the peer at `remoteAddress` sees this socket: behind a dependent NAT, others see other ports.
    public func address(of listener: Multiaddr, seenBy remoteAddress: Multiaddr) -> Multiaddr? {
        guard let observer = Endpoint(remoteAddress) else { return nil }
        let found = observations.last { $0.listener == listener && $0.observer == observer }
        return found.flatMap { Seen(listener: listener, at: $0.observed).address }
    }

    /// How the NAT in front of a socket maps it.
    public func natKind(of listener: Multiaddr) -> NATKind {
        let seen = relevant(of: listener)
        guard let latest = seen.last else { return NATKind() }
        if localAddresses.contains(latest.observed.ip) { return NATKind(mapping: .none, allocation: .preserving) }
        let mapping = mapping(of: seen)
        return NATKind(mapping: mapping, allocation: allocation(of: seen, mapping, port: listener.port))
    }

    /// The outbound observations that tell of the widest network, in the order in which the connections began.
    private func relevant(of listener: Multiaddr) -> [Observation] {
        let outbound = observations.filter { $0.listener == listener && $0.isOutbound }
        let global = outbound.filter { $0.observer.ip.scope == .global }
        return (global.isEmpty ? outbound : global).sorted { $0.connection < $1.connection }
    }

    private func mapping(of seen: [Observation]) -> NATMapping {
        var agreesAcrossAddresses = false
        var agreesAcrossPorts = false
        var differsAcrossAddresses = false
        for (index, first) in seen.enumerated() {
            for second in seen[..<index] where first.observer != second.observer && first.overlaps(second) {
                let agrees = first.observed == second.observed
                if first.observer.ip == second.observer.ip {
                    if !agrees { return .addressAndPortDependent }
                    agreesAcrossPorts = true
                } else if agrees {
                    agreesAcrossAddresses = true
                } else {
                    differsAcrossAddresses = true
                }
            }
        }
        if differsAcrossAddresses { return agreesAcrossPorts ? .addressDependent : .addressAndPortDependent }
        return agreesAcrossAddresses ? .endpointIndependent : .unknown
    }

    private func allocation(of seen: [Observation], _ mapping: NATMapping, port: UInt16?) -> PortAllocation {
        var ports: [UInt16] = []
        for observation in seen where !ports.contains(observation.observed.port) {
            ports.append(observation.observed.port)
        }
        if ports == [port ?? 0] { return .preserving }
        guard mapping.isDependent, ports.count > 1 else { return mapping == .unknown ? .unknown : .random }
        return PortAllocation(successive: ports)
    }
}

/// One place where a socket is seen.
private struct Seen: Hashable, Comparable {
    let listener: Multiaddr
    let at: ObservedAddresses.Endpoint

    /// The listener's address with another host and port.
    var address: Multiaddr? { listener.replacingIP(at.ip)?.replacingPort(at.port) }

    static func < (left: Seen, right: Seen) -> Bool {
        (left.at, left.listener) < (right.at, right.listener)
    }
}

extension IPAddress {
    /// The network that one administrator is taken to rule: /24 of IPv4, /48 of IPv6.
    public var network: IPAddress {
        switch self {
        case .v4(let ip): .v4(IPv4Address(rawValue: ip.rawValue & 0xFFFF_FF00))
        case .v6(let ip): .v6(IPv6Address(high: ip.high & 0xFFFF_FFFF_FFFF_0000, low: 0))
        }
    }
}
