import MartletCore
import MartletReachability

/// A packet of the simulated network.
struct SimulatedDatagram {
    var source: TransportAddress
    var destination: TransportAddress
    var bytes: [UInt8]
}

/// A NAT, or a firewall, between a network inside and one outside. Sans-I/O, as all of the simulation.
final class NATBox {
    /// What stands between an inside and an outside address. Which of its destinations are known says what may come in.
    private struct Mapping {
        let inside: TransportAddress
        let outside: UInt16
        var lastUsed: Instant
        var destinations: [TransportAddress: Instant] = [:]
    }

    private struct Key: Hashable {
        let inside: TransportAddress
        var address: IPAddress?
        var port: UInt16?
    }

    private struct Flow: Hashable {
        let remote: TransportAddress
        let port: UInt16
    }

    let specification: NATSpecification
    /// The address outside.
    let address: IPAddress
    /// The NAT further out, if there is one.
    let parent: NATBox?
    private var byKey: [Key: UInt16] = [:]
    private var byPort: [UInt16: Mapping] = [:]
    private var nextPort: UInt16
    private var random: RandomSource
    /// Flows that the router itself took part in, and until when it remembers them.
    private var ownFlows: [Flow: Instant] = [:]
    /// What a firewall without translation let out.
    private var allowed: [Flow: Instant] = [:]

    private static let lifetime = Duration.seconds(30)
    private static let ports: ClosedRange<UInt16> = 1024...65535

    init(_ specification: NATSpecification, address: IPAddress, parent: NATBox? = nil, random: RandomSource) {
        self.specification = specification
        self.address = address
        self.parent = parent
        self.random = random
        nextPort = UInt16.random(in: 20_000...50_000, using: &self.random)
    }

    // MARK: Outbound

    /// Takes a packet from inside; returns it as it leaves, or nil.
    func outbound(_ datagram: SimulatedDatagram, now: Instant) -> SimulatedDatagram? {
        guard !specification.blocksUDP else { return nil }
        var datagram = datagram
        guard specification.translates else {
            allowed[Flow(remote: datagram.destination, port: datagram.source.port)] = now
            return datagram
        }
        let key = key(datagram, now: now)
        let port = mapping(key, datagram.source, now: now)
        byPort[port]?.lastUsed = now
        byPort[port]?.destinations[datagram.destination] = now
        datagram.source = TransportAddress(address, port: port)
        return datagram
    }

    private func key(_ datagram: SimulatedDatagram, now: Instant) -> Key {
        let destination = datagram.destination
        switch specification.mapping {
        case .endpointIndependent:
            let key = Key(inside: datagram.source)
            // The router's own flow holds this port towards this peer.
            guard let port = byKey[key], isOwn(Flow(remote: destination, port: port), now: now) else { return key }
            return Key(inside: datagram.source, address: destination.ip, port: destination.port)
        case .addressDependent: return Key(inside: datagram.source, address: destination.ip)
        case .addressAndPortDependent:
            return Key(inside: datagram.source, address: destination.ip, port: destination.port)
        }
    }

    private func mapping(_ key: Key, _ inside: TransportAddress, now: Instant) -> UInt16 {
        if let port = byKey[key], let mapping = byPort[port] {
            if now - mapping.lastUsed < Self.lifetime { return port }
            byPort[port] = nil
        }
        let port = allocate(key, inside.port, now: now)
        byKey[key] = port
        byPort[port] = Mapping(inside: inside, outside: port, lastUsed: now)
        return port
    }

    private func allocate(_ key: Key, _ wanted: UInt16, now: Instant) -> UInt16 {
        switch specification.allocation {
        case .preserving where key.port == nil || specification.mapping != .endpointIndependent:
            if isFree(wanted, now: now) { return wanted }
        case .sequential:
            repeat { nextPort = nextPort == .max ? 1024 : nextPort + 1 } while !isFree(nextPort, now: now)
            return nextPort
        case .preserving, .random: break
        }
        while true {
            let port = UInt16.random(in: Self.ports, using: &random)
            if isFree(port, now: now) { return port }
        }
    }

    private func isFree(_ port: UInt16, now: Instant) -> Bool {
        byPort[port].map { now - $0.lastUsed >= Self.lifetime } ?? true
    }

    private func isOwn(_ flow: Flow, now: Instant) -> Bool {
        ownFlows[flow].map { now - $0 < Self.lifetime } ?? false
    }

    // MARK: Inbound

    /// Takes a packet from outside; returns it as it goes on inside, or nil.
    func inbound(_ datagram: SimulatedDatagram, now: Instant) -> SimulatedDatagram? {
        guard !specification.blocksUDP else { return nil }
        let port = datagram.destination.port
        guard specification.translates else {
            let isFresh = allowed.contains { flow, time in
                flow.port == port && matches(flow.remote, datagram.source) && now - time < Self.lifetime
            }
            return specification.filtering == .endpointIndependent || isFresh ? datagram : nil
        }
        guard let mapping = byPort[port], now - mapping.lastUsed < Self.lifetime, admits(mapping, datagram, now: now)
        else {
            if specification.answersStrangers { ownFlows[Flow(remote: datagram.source, port: port)] = now }
            return nil
        }
        byPort[port]?.lastUsed = now
        var datagram = datagram
        datagram.destination = mapping.inside
        return datagram
    }

    private func admits(_ mapping: Mapping, _ datagram: SimulatedDatagram, now: Instant) -> Bool {
        if specification.filtering == .endpointIndependent { return true }
        if let time = mapping.destinations[datagram.source] { return now - time < Self.lifetime }
        return specification.filtering == .addressDependent
            && mapping.destinations.contains { matches($0.key, datagram.source) && now - $0.value < Self.lifetime }
    }

    private func matches(_ known: TransportAddress, _ source: TransportAddress) -> Bool {
        switch specification.filtering {
        case .endpointIndependent: true
        case .addressDependent: known.ip == source.ip
        case .addressAndPortDependent: known == source
        }
    }
}
