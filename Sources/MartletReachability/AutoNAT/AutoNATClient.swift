public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Finds out which addresses of this node strangers reach, by having several peers dial each of them.
///
/// A dial from a host that this node has sent something to shows little: many NATs let in exactly these. Only what comes from
/// elsewhere makes an address public.
///
/// Sans-I/O, on the node's home loop. The owner says which addresses and which servers there are, asks what `nextOrder` says,
/// and tells what came of it.
public struct AutoNATClient: Sendable {
    public struct Configuration: Sendable {
        /// Servers asked about an address in one round; the majority decides.
        public var serversPerAddress = 3
        /// When the next round about a public address begins, and about any other.
        public var publicInterval = Duration.seconds(3600)
        public var privateInterval = Duration.seconds(300)
        /// Between two questions to one server, which takes 12 a minute.
        public var serverInterval = Duration.seconds(6)
        /// How long a server that had enough of us is left alone.
        public var rejectionPause = Duration.seconds(120)
        /// When the answer to a question is given up.
        public var probeTimeout = Duration.seconds(30)
        public var maximumAddresses = 16
        public var maximumProbes = 3
        /// Whether private and loopback addresses are asked about, too, and any peer is asked: for private networks.
        public var asksAboutPrivateAddresses = false

        public init() {}
    }

    /// An address to ask about.
    public struct Candidate: Hashable, Sendable {
        public let address: Multiaddr
        /// The listening socket at which a dial of it comes in.
        public let listener: Multiaddr
        public let origin: AddressOrigin

        public init(address: Multiaddr, listener: Multiaddr, origin: AddressOrigin) {
            self.address = address
            self.listener = listener
            self.origin = origin
        }
    }

    /// A connection to a peer that serves dial requests.
    public struct Server: Hashable, Sendable {
        public let peer: PeerID
        public let connection: ConnectionID
        public let address: Multiaddr
        /// The listening sockets that have sent something to the server's IP address: a NAT may let it in there, and no others.
        public let warmListeners: [Multiaddr]

        public init(peer: PeerID, connection: ConnectionID, address: Multiaddr, warmListeners: [Multiaddr]) {
            self.peer = peer
            self.connection = connection
            self.address = address
            self.warmListeners = warmListeners
        }
    }

    public enum Order: Hashable, Sendable {
        /// Ask over this connection to have the address dialed, and answer with `answered`.
        case ask(ConnectionID, Multiaddr, nonce: UInt64)
        /// Give up a question: its answer does not matter any more.
        case cancel(ConnectionID, nonce: UInt64)
    }

    /// What one server found.
    struct Result: Hashable, Sendable {
        let peer: PeerID
        let isReached: Bool
        /// Whether the socket had sent packets to where the dial came from: a NAT may let such in and no others.
        let isWarm: Bool
    }

    /// What is known of one address.
    struct Entry: Sendable {
        let candidate: Candidate
        var reachability = Reachability.unknown
        /// Those of the round under way, or of the one before while this one has none.
        var results: [Result] = []
        var isOfEarlierRound = false
        /// Servers that were asked in this round.
        var asked: Set<PeerID> = []
        /// When all is asked anew; nil while there are servers to ask.
        var nextRound: Instant?

        func isComplete(_ configuration: Configuration) -> Bool {
            if asked.count >= 2 * configuration.serversPerAddress { return true }
            return !isOfEarlierRound && results.count >= configuration.serversPerAddress
        }
    }

    private struct Probe {
        let address: Multiaddr
        let server: Server
        let startedAt: Instant
        /// Set when the nonce came in: whether it came from where this socket had sent to.
        var arrival: Bool?
    }

    public let configuration: Configuration
    private var entries: [Entry] = []
    private var servers: [Server] = []
    private var probes: [UInt64: Probe] = [:]
    /// When a server may be asked again.
    private var restUntil: [PeerID: Instant] = [:]
    private var orders: [Order] = []
    private var random: RandomSource
    /// Whom the NAT in front of each listening socket lets in, where that was found out in another way than by dials.
    private var filtering: [Multiaddr: NATFiltering] = [:]

    public init(configuration: Configuration = Configuration(), random: RandomSource) {
        self.configuration = configuration
        self.random = random
    }

    // MARK: Output

    public mutating func nextOrder() -> Order? { orders.isEmpty ? nil : orders.removeFirst() }

    /// The earliest moment at which `advance` has work.
    public var deadline: Instant? {
        let timeouts = probes.values.map { $0.startedAt + configuration.probeTimeout }
        return (timeouts + entries.compactMap(wakeTime)).min()
    }

    /// When there may be something to ask about an address again.
    private func wakeTime(_ entry: Entry) -> Instant? {
        guard !entry.isComplete(configuration) else { return entry.nextRound }
        let rests = usableServers.filter { !entry.asked.contains($0.peer) }.compactMap { restUntil[$0.peer] }
        return (rests + [entry.nextRound].compactMap(\.self)).min()
    }

    /// What is known of each address, in the order in which they were given.
    public var reachability: [AddressReachability] {
        entries.map { entry in
            AddressReachability(
                address: entry.candidate.address, origin: entry.candidate.origin, reachability: entry.reachability,
                successCount: entry.results.count(where: \.isReached),
                failureCount: entry.results.count(where: { !$0.isReached }),
                strangerCount: entry.results.count(where: { $0.isReached && !$0.isWarm }))
        }
    }

    /// Whose packets the NAT in front of a socket lets in, by what became of dials to where peers see the socket.
    public func filtering(of listener: Multiaddr) -> NATFiltering {
        let results = entries.filter {
            $0.candidate.listener == listener && [.observed, .listening].contains($0.candidate.origin)
        }
        .flatMap(\.results)
        if results.contains(where: { $0.isReached && !$0.isWarm }) { return .endpointIndependent }
        let isReachedWarm = results.contains { $0.isReached && $0.isWarm }
        if isReachedWarm { return results.contains { !$0.isReached && !$0.isWarm } ? .addressDependent : .unknown }
        if results.contains(where: { !$0.isReached && $0.isWarm }) { return .addressAndPortDependent }
        return results.isEmpty ? .unknown : .dependent
    }

    // MARK: Input

    /// The addresses to ask about, the most promising first, and the servers that there are. What is known of an address
    /// stays while it is named.
    public mutating func update(_ candidates: [Candidate], servers: [Server], now: Instant) {
        let wanted = candidates.filter { isWorthAsking($0.address) }.prefix(configuration.maximumAddresses)
        var updated: [Entry] = []
        for candidate in wanted where !updated.contains(where: { $0.candidate.address == candidate.address }) {
            updated.append(entries.first { $0.candidate == candidate } ?? Entry(candidate: candidate))
        }
        entries = updated
        self.servers = servers
        for nonce in probes.keys.sorted() {
            guard let probe = probes[nonce], !entries.contains(where: { $0.candidate.address == probe.address }) else {
                continue
            }
            probes[nonce] = nil
            orders.append(.cancel(probe.server.connection, nonce: nonce))
        }
        advance(now: now)
    }

    /// Whom the NATs in front of the listening sockets let in, where that was found out in another way.
    public mutating func noteFiltering(_ filtering: [Multiaddr: NATFiltering]) {
        guard filtering != self.filtering else { return }
        self.filtering = filtering
        for index in entries.indices { judge(index) }
    }

    /// The network changed: everything is asked anew.
    public mutating func restart(now: Instant) {
        for index in entries.indices { entries[index] = Entry(candidate: entries[index].candidate) }
        for nonce in probes.keys.sorted() {
            guard let probe = probes.removeValue(forKey: nonce) else { continue }
            orders.append(.cancel(probe.server.connection, nonce: nonce))
        }
        advance(now: now)
    }

    /// A nonce came in on a connection to `listener`. Returns whether it was to come there.
    ///
    /// - Parameter isWarm: whether the socket has sent something to that IP address, and the NAT perhaps has a hole for it.
    public mutating func nonceArrived(_ nonce: UInt64, at listener: Multiaddr?, isWarm: Bool) -> Bool {
        guard let probe = probes[nonce],
            let entry = entries.first(where: { $0.candidate.address == probe.address }),
            entry.candidate.listener == listener
        else { return false }
        // A server of several addresses may come from all of them.
        probes[nonce]?.arrival = isWarm && probe.arrival ?? true
        return true
    }

    /// The answer to a question, or why there is none.
    public mutating func answered(
        _ nonce: UInt64, _ answer: Swift.Result<AutoNATResponse, StreamCloseReason>, now: Instant
    ) {
        guard let probe = probes.removeValue(forKey: nonce) else { return }
        let peer = probe.server.peer
        switch answer {
        case .success(.dialed(_, let outcome)):
            if let isWarm = probe.arrival {
                note(Result(peer: peer, isReached: true, isWarm: isWarm), of: probe.address)
            } else if outcome == .notReached {
                // The server dials from the address that we are connected to it at, as far as we know.
                let isWarm = isWarm(probe)
                note(Result(peer: peer, isReached: false, isWarm: isWarm), of: probe.address)
            }
        // A server that says that it reached us, without a nonce that came in, is not believed.
        case .success(.rejected): restUntil[peer] = now + configuration.rejectionPause
        case .success(.refused), .success(.failed), .failure: break
        }
        advance(now: now)
    }

    /// Asks what there is to ask.
    public mutating func advance(now: Instant) {
        for nonce in probes.keys.sorted() {
            guard let probe = probes[nonce], now - probe.startedAt >= configuration.probeTimeout else { continue }
            probes[nonce] = nil
            orders.append(.cancel(probe.server.connection, nonce: nonce))
        }
        restUntil = restUntil.filter { $0.value > now }
        for index in entries.indices {
            if let next = entries[index].nextRound, now >= next {
                entries[index].nextRound = nil
                entries[index].isOfEarlierRound = true
                entries[index].asked = []
            }
            ask(index, now: now)
        }
    }

    private mutating func ask(_ index: Int, now: Instant) {
        let entry = entries[index]
        guard !probes.values.contains(where: { $0.address == entry.candidate.address }) else { return }
        let unasked = usableServers.filter { !entry.asked.contains($0.peer) }
        if entry.isComplete(configuration) || unasked.isEmpty {
            guard entry.nextRound == nil, !entry.asked.isEmpty else { return }
            let interval =
                entry.reachability == .public ? configuration.publicInterval : configuration.privateInterval
            entries[index].nextRound = now + interval
            return
        }
        guard probes.count < configuration.maximumProbes, let server = best(of: unasked, for: entry) else { return }
        entries[index].asked.insert(server.peer)
        entries[index].nextRound = nil
        restUntil[server.peer] = now + configuration.serverInterval
        let nonce = random.next()
        probes[nonce] = Probe(address: entry.candidate.address, server: server, startedAt: now)
        orders.append(.ask(server.connection, entry.candidate.address, nonce: nonce))
    }

    /// One that does not rest; of a network that none of those asked is in, and that the NAT has no hole for, if there is one.
    private func best(of unasked: [Server], for entry: Entry) -> Server? {
        let networks = Set(usableServers.filter { entry.asked.contains($0.peer) }.compactMap(\.network))
        func rank(_ server: Server) -> Int {
            let isNew = server.network.map { !networks.contains($0) } ?? false
            return (isNew ? 0 : 2) + (server.warmListeners.contains(entry.candidate.listener) ? 1 : 0)
        }
        return unasked.filter { restUntil[$0.peer] == nil }.min { rank($0) < rank($1) }
    }

    /// Servers that can tell: those out in the internet.
    private var usableServers: [Server] {
        servers.filter { server in
            guard let ip = server.address.ipAddress, !server.address.isCircuit else { return false }
            return configuration.asksAboutPrivateAddresses || ip.unmapped.scope == .global
        }
    }

    private mutating func note(_ result: Result, of address: Multiaddr) {
        guard let index = entries.firstIndex(where: { $0.candidate.address == address }) else { return }
        if entries[index].isOfEarlierRound {
            entries[index].isOfEarlierRound = false
            entries[index].results = []
        }
        entries[index].results.append(result)
        judge(index)
    }

    /// What the results mean.
    private mutating func judge(_ index: Int) {
        let entry = entries[index]
        guard !entry.results.isEmpty else { return }
        let missed = entry.results.count { !$0.isReached }
        let reachedWarm = entry.results.count { $0.isReached && $0.isWarm }
        var reached = entry.results.count(where: \.isReached) - reachedWarm
        // Whether a dial of somebody that this node talks to says that strangers get in, too.
        switch whatIsLetIn(to: entry.candidate) {
        case .endpointIndependent: reached += reachedWarm
        case .dependent, .addressDependent, .addressAndPortDependent:
            if reached == 0 {
                entries[index].reachability = .private
                return
            }
        case .unknown: break
        }
        if reached != missed {
            entries[index].reachability = reached > missed ? .public : .private
        } else if reached == 0 {
            entries[index].reachability = .unknown
        }
    }

    private func whatIsLetIn(to candidate: Candidate) -> NATFiltering {
        // Between hosts of a private network there is no NAT.
        guard candidate.address.scope == .global else { return .endpointIndependent }
        switch candidate.origin {
        // Of a port that is forwarded, the NAT's other ports tell nothing.
        case .mapped, .forwarded: return .unknown
        case .listening, .observed: return filtering[candidate.listener] ?? .unknown
        }
    }

    private func isWarm(_ probe: Probe) -> Bool {
        let listener = entries.first { $0.candidate.address == probe.address }?.candidate.listener
        return listener.map(probe.server.warmListeners.contains) ?? false
    }

    private func isWorthAsking(_ address: Multiaddr) -> Bool {
        switch address.scope {
        case .global: true
        case .privateNetwork, .carrierNAT, .loopback: configuration.asksAboutPrivateAddresses
        case .unspecified, .linkLocal, .multicast, .reserved, nil: false
        }
    }
}

extension AutoNATClient.Server {
    var network: IPAddress? { address.ipAddress?.unmapped.network }
}
