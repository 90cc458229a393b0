public import MartletCore

/// Finds out how the NAT in front of one UDP socket maps it, by asking STUN servers, which every Martlet node is.
///
/// A server that names a second socket of its own is asked there too: already two ports of one address tell whether the NAT
/// gives every destination another port.
public struct MappingObserver: Sendable {
    private struct Query {
        let id: STUNMessage.TransactionID
        let server: TransportAddress
        var attempts = 0
        var nextSend: Instant
    }

    private struct Observation {
        let server: TransportAddress
        let mapped: TransportAddress
        let at: Instant
    }

    /// Servers asked at a time, and remembered.
    public static let serverLimit = 8
    /// How long an answer counts.
    private static let lifetime = Duration.seconds(600)
    private static let attempts = 5
    private static let repetition = Duration.milliseconds(200)

    /// The socket's own port.
    private let port: UInt16
    /// The addresses of this machine: who is seen at one of them is not behind a NAT.
    public var localAddresses: [IPAddress]
    private var queries: [Query] = []
    private var observations: [Observation] = []
    private var orders: [(bytes: [UInt8], to: TransportAddress)] = []
    /// What was seen before may not be so any more.
    private var doubtedAt: Instant?

    public init(port: UInt16, localAddresses: [IPAddress]) {
        self.port = port
        self.localAddresses = localAddresses
    }

    // MARK: Asking

    /// Asks servers, those aside that are being asked.
    public mutating func ask(_ servers: [TransportAddress], random: inout RandomSource, now: Instant) {
        for server in servers where queries.count < Self.serverLimit {
            guard server.port != 0, !queries.contains(where: { $0.server == server }) else { continue }
            queries.append(
                Query(id: random.bytes(STUNMessage.transactionByteCount), server: server, nextSend: now))
        }
        handleTimeout(now: now)
    }

    /// Forgets what was seen at an address that the NAT does not have any more.
    public mutating func addressLost(_ ip: IPAddress) { observations.removeAll { $0.mapped.ip == ip } }

    /// Forgets what other networks saw.
    public mutating func networkChanged(localAddresses: [IPAddress]) {
        self.localAddresses = localAddresses
        observations = []
        queries = []
    }

    /// Something speaks for a mapping that is not there any more: what was found is used only until it is found anew.
    public mutating func doubt(now: Instant) { doubtedAt = now }

    /// Whether there is reason to ask again.
    public var isDoubted: Bool {
        guard let doubtedAt else { return false }
        return observations.last.map { $0.at < doubtedAt } ?? true
    }

    public mutating func nextOrder() -> (bytes: [UInt8], to: TransportAddress)? {
        orders.isEmpty ? nil : orders.removeFirst()
    }

    public var deadline: Instant? { queries.map(\.nextSend).min() }

    public mutating func handleTimeout(now: Instant) {
        queries.removeAll { $0.nextSend <= now && $0.attempts >= Self.attempts }
        for index in queries.indices where queries[index].nextSend <= now {
            orders.append((STUNMessage.request(queries[index].id).bytes, queries[index].server))
            queries[index].attempts += 1
            queries[index].nextSend = now + Self.repetition * queries[index].attempts
        }
        observations.removeAll { now - $0.at >= Self.lifetime }
    }

    /// Takes an answer. Returns false for datagrams that are none of ours.
    @discardableResult
    public mutating func received(_ datagram: [UInt8], random: inout RandomSource, now: Instant) -> Bool {
        guard case .response(let id, let mapped, let other, _)? = try? STUNMessage(bytes: datagram),
            let index = queries.firstIndex(where: { $0.id == id })
        else { return false }
        let server = queries.remove(at: index).server
        observations.removeAll { $0.server == server }
        observations.append(Observation(server: server, mapped: mapped, at: now))
        if observations.count > Self.serverLimit { observations.removeFirst() }
        // Another port of the same machine: a server must not send us to somebody else. One that listens on all of its
        // addresses does not know which of them we use, and leaves it out.
        if let other, other.port != server.port, other.ip == server.ip || other.ip.scope == .unspecified {
            ask([TransportAddress(server.ip, port: other.port)], random: &random, now: now)
        }
        return true
    }

    // MARK: What was found

    /// Whether answers are awaited and nothing is known until then.
    public var isLearning: Bool { !queries.isEmpty && (observations.isEmpty || isDoubted) }

    /// Where the server asked last sees the socket.
    public var mapped: TransportAddress? { observations.last?.mapped }

    /// Servers that answered, the latest first.
    public var servers: [TransportAddress] { observations.reversed().map(\.server) }

    /// How the NAT maps the socket.
    public var natKind: NATKind {
        guard let latest = observations.last?.mapped else { return NATKind() }
        if localAddresses.contains(latest.ip) { return NATKind(mapping: .none, allocation: .preserving) }
        let isPreserved = observations.allSatisfy { $0.mapped.port == port }
        return NATKind(mapping: mapping, allocation: isPreserved ? .preserving : .unknown)
    }

    private var mapping: NATMapping {
        var agrees = false
        var agreesAcrossPorts = false
        var differs = false
        for (index, first) in observations.enumerated() {
            for second in observations[..<index] {
                if first.mapped == second.mapped {
                    agrees = true
                    if first.server.ip == second.server.ip { agreesAcrossPorts = true }
                } else {
                    if first.server.ip == second.server.ip { return .addressAndPortDependent }
                    differs = true
                }
            }
        }
        if differs { return agreesAcrossPorts ? .addressDependent : .addressAndPortDependent }
        return agrees ? .endpointIndependent : .unknown
    }
}
