public import MartletCore

/// Finds out how NATs and firewalls in front of this machine treat UDP, by the questions of RFC 5780 to STUN servers, which every
/// Martlet node is: who sees which port (mapping, section 4.3), from where answers come in (filtering, section 4.4), and whether
/// packets to an own address outside come back in (hairpinning, section 4.5).
///
/// It uses two sockets with which nothing else is done: a port that talked to somebody before would let in more than a new one.
/// Servers that have one address only cannot show whether strangers get in: that takes a packet of a host that the second socket has
/// sent nothing to, which somebody else has to be asked for (`strangerWanted`).
///
/// Sans-I/O. One discovery is one run of a few seconds at most.
public struct NATBehaviorDiscovery: Sendable {
    public enum Socket: Hashable, Sendable, CaseIterable {
        /// Asks everybody, to see which port each sees.
        case mapping
        /// Asks one server only, which then answers from elsewhere too.
        case filtering
    }

    public struct Order: Hashable, Sendable {
        public let bytes: [UInt8]
        public let socket: Socket
        public let to: TransportAddress
    }

    private enum Purpose: Hashable {
        case mapping
        case filtering
        case changedPort
        case changedAddress
        case hairpin
    }

    private struct Query: Sendable {
        let id: STUNMessage.TransactionID
        let number: Int
        let purpose: Purpose
        let server: TransportAddress
        let startedAt: Instant
        var attempts = 0
        var nextSend: Instant

        var socket: Socket { purpose == .mapping ? .mapping : .filtering }

        var bytes: [UInt8] {
            switch purpose {
            case .mapping, .filtering, .hairpin: STUNMessage.request(id).bytes
            case .changedPort: STUNMessage.changeRequest(id, changesAddress: false).bytes
            case .changedAddress: STUNMessage.changeRequest(id, changesAddress: true).bytes
            }
        }
    }

    /// Where a server saw one of the sockets.
    private struct Observation: Sendable {
        /// In the order of the questions, and so of the mappings.
        let number: Int
        let socket: Socket
        let server: TransportAddress
        let mapped: TransportAddress
    }

    public static let serverLimit = 4
    private static let attempts = 4
    /// The second packet of a question follows the first after so long, or after the round trip where that is longer; others
    /// later and later.
    private static let shortestRepetition = Duration.milliseconds(150)

    private let localAddresses: [IPAddress]
    private let ports: [Socket: UInt16]
    /// Not asked yet.
    private var servers: [TransportAddress]
    private var queries: [Query] = []
    private var lastNumber = 0
    private var orders: [Order] = []
    private var observations: [Observation] = []
    private var roundTrip = Duration.zero
    private var random: RandomSource
    /// What was asked that a packet from elsewhere has to answer, and what was answered.
    private var tried: Set<Purpose> = []
    private var arrived: Set<Purpose> = []

    /// - Parameters:
    ///   - servers: of one family of addresses.
    ///   - ports: those that the two sockets are bound to.
    ///   - localAddresses: those of this machine: who is seen at one of them is not behind a NAT.
    public init(
        servers: [TransportAddress], ports: [Socket: UInt16], localAddresses: [IPAddress], random: RandomSource
    ) {
        self.servers = Array(servers.prefix(Self.serverLimit))
        self.ports = ports
        self.localAddresses = localAddresses
        self.random = random
    }

    // MARK: Output

    public mutating func nextOrder() -> Order? { orders.isEmpty ? nil : orders.removeFirst() }

    /// When `handleTimeout` has work; nil when the discovery is over.
    public var deadline: Instant? { queries.map(\.nextSend).min() }

    public var isOver: Bool { queries.isEmpty }

    // MARK: Input

    public mutating func start(now: Instant) {
        askNextServer(now: now)
        flush(now: now)
    }

    public mutating func handleTimeout(now: Instant) {
        func isSilent(_ query: Query) -> Bool { query.nextSend <= now && query.attempts >= Self.attempts }
        queries.removeAll(where: isSilent)
        // A server that says nothing is not the NAT's fault, as long as there is another.
        if queries.isEmpty, observations.isEmpty { askNextServer(now: now) }
        flush(now: now)
    }

    /// Takes a datagram that came in. What answers none of the questions is ignored.
    public mutating func received(_ datagram: [UInt8], from source: TransportAddress, on socket: Socket, now: Instant) {
        guard !isOfStranger(source, on: socket) else { return strangerGotIn() }
        switch try? STUNMessage(bytes: datagram) {
        case .request(let id)?:
            guard socket == .mapping, let index = queries.firstIndex(where: { $0.id == id && $0.purpose == .hairpin })
            else { return }
            arrived.insert(queries.remove(at: index).purpose)
        case .response(let id, let mapped, let other, let alternate)?:
            guard let index = queries.firstIndex(where: { $0.id == id && $0.socket == socket }),
                isFromWhereItShould(source, queries[index])
            else { return }
            let query = queries.remove(at: index)
            if query.attempts == 1 { roundTrip = max(roundTrip, now - query.startedAt) }
            take(query, mapped, other, alternate, now: now)
        case .changeRequest?, nil: return
        }
        flush(now: now)
    }

    // MARK: Strangers

    /// A packet of a stranger that is to be sent to the second socket, so that the filtering is known.
    public struct StrangerWanted: Hashable, Sendable {
        /// Where the socket is seen.
        public let address: TransportAddress
        /// The host that is no stranger, because the socket has sent to it.
        public let known: IPAddress
    }

    /// What would show whether strangers get in, once all servers were asked and none could.
    public var strangerWanted: StrangerWanted? {
        guard isOver, arrived.contains(.changedPort), !tried.contains(.changedAddress),
            let seen = observations.first(where: { $0.socket == .filtering }), seen.mapped.port != 0
        else { return nil }
        return StrangerWanted(address: seen.mapped, known: seen.server.ip)
    }

    /// A stranger sent something, and nothing of it came.
    public mutating func strangerDidNotGetIn() {
        if strangerWanted != nil { tried.insert(.changedAddress) }
    }

    private mutating func strangerGotIn() {
        tried.insert(.changedAddress)
        arrived.insert(.changedAddress)
    }

    /// Anything of another host than the server's will do, except of this network itself.
    private func isOfStranger(_ source: TransportAddress, on socket: Socket) -> Bool {
        guard socket == .filtering, let wanted = strangerWanted else { return false }
        return source.ip != wanted.known && source.ip != wanted.address.ip && source.ip.scope == wanted.known.scope
    }

    private func isFromWhereItShould(_ source: TransportAddress, _ query: Query) -> Bool {
        switch query.purpose {
        case .mapping, .filtering: source == query.server
        case .changedPort: source.ip == query.server.ip && source.port != query.server.port
        case .changedAddress: source.ip != query.server.ip
        case .hairpin: false
        }
    }

    private mutating func take(
        _ query: Query, _ mapped: TransportAddress, _ other: TransportAddress?, _ alternate: TransportAddress?,
        now: Instant
    ) {
        guard query.purpose == .mapping || query.purpose == .filtering else {
            arrived.insert(query.purpose)
            return
        }
        let isFirst = !observations.contains { $0.socket == query.socket }
        observations.append(
            Observation(number: query.number, socket: query.socket, server: query.server, mapped: mapped))
        guard isFirst else { return }
        let places = places(other, alternate, of: query.server)
        if query.purpose == .mapping {
            // A server of another network tells the more.
            for place in places + servers.prefix(1) { ask(.mapping, place, now: now) }
            servers = []
        } else {
            if places.contains(where: { $0.ip == query.server.ip }) { ask(.changedPort, query.server, now: now) }
            if places.contains(where: { $0.ip != query.server.ip }) { ask(.changedAddress, query.server, now: now) }
        }
        let outside = observations.first { $0.socket == .mapping }?.mapped
        if let outside, observations.contains(where: { $0.socket == .filtering }), !localAddresses.contains(outside.ip)
        {
            ask(.hairpin, outside, now: now)
        }
    }

    /// The other sockets that a server names: one at another port of its own, and one at another address that reaches as far.
    private func places(
        _ other: TransportAddress?, _ alternate: TransportAddress?, of server: TransportAddress
    ) -> [TransportAddress] {
        var found: [TransportAddress] = []
        for place in [other, alternate].compactMap(\.self) where place.isIPv4 == server.isIPv4 && place.port != 0 {
            if place.ip == server.ip || place.ip.scope == .unspecified {
                // One that listens on all of its addresses does not know which of them we use.
                if place.port != server.port { found.append(TransportAddress(server.ip, port: place.port)) }
            } else if place.ip.scope == server.ip.scope {
                found.append(place)
            }
        }
        return found
    }

    // MARK: Asking

    private mutating func askNextServer(now: Instant) {
        guard !servers.isEmpty else { return }
        let server = servers.removeFirst()
        ask(.mapping, server, now: now)
        ask(.filtering, server, now: now)
    }

    private mutating func ask(_ purpose: Purpose, _ server: TransportAddress, now: Instant) {
        tried.insert(purpose)
        lastNumber += 1
        queries.append(
            Query(
                id: random.bytes(STUNMessage.transactionByteCount), number: lastNumber, purpose: purpose,
                server: server, startedAt: now, nextSend: now))
    }

    private mutating func flush(now: Instant) {
        for index in queries.indices where queries[index].nextSend <= now {
            let query = queries[index]
            orders.append(Order(bytes: query.bytes, socket: query.socket, to: query.server))
            queries[index].attempts += 1
            queries[index].nextSend = now + max(Self.shortestRepetition, roundTrip) * queries[index].attempts
        }
    }

    // MARK: What was found

    /// Whether any server answered: none does where UDP is blocked.
    public var isAnswered: Bool { !observations.isEmpty }

    public var behavior: NATBehavior {
        NATBehavior(
            kind: NATKind(mapping: mapping, filtering: filtering, allocation: allocation),
            hairpinning: tried.contains(.hairpin) ? arrived.contains(.hairpin) : nil,
            externalAddress: observations.first?.mapped.ip, isAnswered: isAnswered)
    }

    private var seen: [Observation] {
        observations.filter { $0.socket == .mapping }.sorted { $0.number < $1.number }
    }

    private var mapping: NATMapping {
        let seen = seen
        guard let first = seen.first else { return .unknown }
        if localAddresses.contains(first.mapped.ip) { return .none }
        func agree(_ isCompared: (Observation) -> Bool) -> Bool? {
            let compared = seen.dropFirst().filter(isCompared)
            return compared.isEmpty ? nil : compared.allSatisfy { $0.mapped == first.mapped }
        }
        let acrossPorts = agree { $0.server.ip == first.server.ip }
        let acrossAddresses = agree { $0.server.ip != first.server.ip }
        switch (acrossPorts, acrossAddresses) {
        case (false, _): return .addressAndPortDependent
        case (_, true): return .endpointIndependent
        case (true, false): return .addressDependent
        case (nil, false): return .addressAndPortDependent
        case (_, nil): return .unknown
        }
    }

    private var filtering: NATFiltering {
        if arrived.contains(.changedAddress) { return .endpointIndependent }
        let isPortKept = tried.contains(.changedPort) && !arrived.contains(.changedPort)
        if tried.contains(.changedAddress) {
            guard tried.contains(.changedPort) else { return .dependent }
            return isPortKept ? .addressAndPortDependent : .addressDependent
        }
        // Of one address alone it cannot be told whether strangers get in.
        return isPortKept ? .addressAndPortDependent : .unknown
    }

    private var allocation: PortAllocation {
        let all = observations.sorted { $0.number < $1.number }
        guard !all.isEmpty else { return .unknown }
        if all.allSatisfy({ $0.mapped.port == ports[$0.socket] }) { return .preserving }
        return PortAllocation(successive: all.map(\.mapped.port))
    }
}
