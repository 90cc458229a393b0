import DequeModule
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Names one circuit of a relay; never used twice.
public struct CircuitID: Hashable, Comparable, Sendable {
    public let rawValue: UInt64
    public static func < (left: CircuitID, right: CircuitID) -> Bool { left.rawValue < right.rawValue }
}

/// Who asks a relay for something.
public struct RelayClient: Hashable, Sendable {
    public let peer: PeerID
    public let connection: ConnectionID
    public let remoteAddress: Multiaddr

    public init(peer: PeerID, connection: ConnectionID, remoteAddress: Multiaddr) {
        self.peer = peer
        self.connection = connection
        self.remoteAddress = remoteAddress
    }
}

/// A request that was refused: what the peer is told, and why, for the log.
public struct RelayRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    public let status: CircuitStatus
    public let reason: String

    public init(status: CircuitStatus, reason: String) {
        self.status = status
        self.reason = reason
    }

    /// The peer that somebody wants to be connected to did not take the circuit. Whether it never will is passed on; anything else
    /// that it says is about the relay, and none of the caller's business.
    public init(ofTarget answer: StopMessage) {
        guard case .status(let status) = answer else {
            self.init(status: .connectionFailed, reason: "the peer answered with something else than a status")
            return
        }
        let isPassedOn = status == .permissionDenied || status == .resourceLimitExceeded
        self.init(status: isPassedOn ? status : .connectionFailed, reason: "the peer answered \(status)")
    }

    public var description: String { reason }
}

/// The books of a relay: who holds a reservation, and which circuits there are (libp2p specs, relay/circuit-v2.md).
///
/// A value without I/O. Its owner asks it about every request, tells it of circuits and connections that ended, and wakes it at
/// `deadline`.
public struct RelayServer {
    public let configuration: RelayConfiguration
    private let local: PeerID

    private struct Reservation {
        var connection: ConnectionID
        var range: AddressRange?
        var expiresAt: Instant
    }

    private struct OpenCircuit {
        let source: PeerID
        let target: PeerID
        let range: AddressRange?
    }

    private var reservations: [PeerID: Reservation] = [:]
    private var holders: [ConnectionID: PeerID] = [:]
    /// In the order of time, since all last equally long; entries that a renewal has overtaken mean nothing.
    private var expiries: Deque<(at: Instant, peer: PeerID)> = []
    private var circuits: [CircuitID: OpenCircuit] = [:]
    private var lastCircuit: UInt64 = 0

    private var reservationsByRange: [AddressRange: Int] = [:]
    private var circuitsByRange: [AddressRange: Int] = [:]
    private var circuitsFrom: [PeerID: Int] = [:]
    private var circuitsTo: [PeerID: Int] = [:]

    public init(local: PeerID, configuration: RelayConfiguration) {
        self.local = local
        self.configuration = configuration
    }

    public var reservationCount: Int { reservations.count }
    public var circuitCount: Int { circuits.count }
    /// Times of expiry kept, outdated ones included.
    var expiryCount: Int { expiries.count }

    /// The limits that peers are told of; nil when there are none.
    public var limit: ConnectionLimit? {
        guard let limit = configuration.circuitLimit, limit.duration != nil || limit.byteCount != nil else {
            return nil
        }
        return limit
    }

    // MARK: Requests

    /// A peer wants to be reached through this relay, or to be so for longer. Returns how long it will be.
    public mutating func reserve(_ client: RelayClient, now: Instant) throws(RelayRefusal) -> Duration {
        try admit(client, .reserve(client.peer, at: client.remoteAddress))
        let range = range(of: client.remoteAddress)
        let old = reservations[client.peer]
        if old == nil, reservations.count >= configuration.maximumReservations {
            throw refusal(.reservationRefused, "reservations", configuration.maximumReservations)
        }
        if let range, old?.range != range,
            reservationsByRange[range, default: 0] >= configuration.maximumReservationsPerRange
        {
            throw refusal(
                .reservationRefused, "reservations from one range of addresses",
                configuration.maximumReservationsPerRange)
        }
        if let old { forget(client.peer, old) }
        let expiresAt = now + configuration.reservationLifetime
        reservations[client.peer] = Reservation(connection: client.connection, range: range, expiresAt: expiresAt)
        holders[client.connection] = client.peer
        if let range { reservationsByRange[range, default: 0] += 1 }
        expiries.append((expiresAt, client.peer))
        if expiries.count > 64 + 2 * reservations.count {
            expiries.removeAll { [reservations] in reservations[$0.peer]?.expiresAt != $0.at }
        }
        return configuration.reservationLifetime
    }

    /// A peer wants to be connected to another. Returns the circuit, which counts from now until `circuitEnded`, and the
    /// connection to the other peer.
    public mutating func connect(
        _ client: RelayClient, to target: PeerID, now: Instant
    ) throws(RelayRefusal) -> (circuit: CircuitID, connection: ConnectionID) {
        try admit(client, .connect(client.peer, at: client.remoteAddress, to: target))
        guard target != client.peer else {
            throw RelayRefusal(status: .permissionDenied, reason: "a peer asked to be connected to itself")
        }
        guard let reservation = reservations[target], now < reservation.expiresAt else {
            throw RelayRefusal(status: .noReservation, reason: "\(target) holds no reservation")
        }
        guard circuits.count < configuration.maximumCircuits else {
            throw refusal(.resourceLimitExceeded, "circuits", configuration.maximumCircuits)
        }
        let perPeer = configuration.maximumCircuitsPerPeer
        guard circuitsFrom[client.peer, default: 0] < perPeer else {
            throw refusal(.resourceLimitExceeded, "circuits from one peer", perPeer)
        }
        guard circuitsTo[target, default: 0] < perPeer else {
            throw refusal(.resourceLimitExceeded, "circuits to one peer", perPeer)
        }
        let range = range(of: client.remoteAddress)
        if let range, circuitsByRange[range, default: 0] >= configuration.maximumCircuitsPerRange {
            throw refusal(
                .resourceLimitExceeded, "circuits from one range of addresses", configuration.maximumCircuitsPerRange)
        }
        lastCircuit += 1
        let id = CircuitID(rawValue: lastCircuit)
        circuits[id] = OpenCircuit(source: client.peer, target: target, range: range)
        circuitsFrom[client.peer, default: 0] += 1
        circuitsTo[target, default: 0] += 1
        if let range { circuitsByRange[range, default: 0] += 1 }
        return (id, reservation.connection)
    }

    private func admit(_ client: RelayClient, _ request: RelayRequest) throws(RelayRefusal) {
        guard !client.remoteAddress.isCircuit else {
            throw RelayRefusal(status: .permissionDenied, reason: "the peer is itself connected through a relay")
        }
        guard client.peer != local else {
            throw RelayRefusal(status: .permissionDenied, reason: "the relay asked itself")
        }
        guard configuration.allowedPeers?.contains(client.peer) != false, configuration.allows?(request) != false else {
            throw RelayRefusal(status: .permissionDenied, reason: "the peer may not use this relay")
        }
    }

    private func refusal(_ status: CircuitStatus, _ limit: String, _ count: Int) -> RelayRefusal {
        RelayRefusal(status: status, reason: "the limit of \(count) \(limit) is reached")
    }

    private func range(of address: Multiaddr) -> AddressRange? {
        AddressRange(
            of: address, ipv4Length: configuration.ipv4RangeLength, ipv6Length: configuration.ipv6RangeLength)
    }

    // MARK: Ends

    /// A circuit ended, or could not be made.
    public mutating func circuitEnded(_ id: CircuitID) {
        guard let circuit = circuits.removeValue(forKey: id) else { return }
        release(circuit.source, in: &circuitsFrom)
        release(circuit.target, in: &circuitsTo)
        if let range = circuit.range { release(range, in: &circuitsByRange) }
    }

    /// The peer whose reservation stands over a connection.
    public func holder(over connection: ConnectionID) -> PeerID? { holders[connection] }

    /// The connection that a reservation stands over has ended. The reservation goes with it, unless the peer has another
    /// connection, which then stands in.
    ///
    /// - Returns: whether the reservation ended.
    public mutating func connectionClosed(_ connection: ConnectionID, replacement: ConnectionID?) -> Bool {
        guard let peer = holders.removeValue(forKey: connection), let old = reservations[peer] else { return false }
        if let replacement {
            reservations[peer]?.connection = replacement
            holders[replacement] = peer
            return false
        }
        forget(peer, old)
        return true
    }

    /// When the next reservation expires.
    public var deadline: Instant? { expiries.first?.at }

    /// Ends the reservations that have expired. Returns whose they were.
    public mutating func handleTimeout(now: Instant) -> [PeerID] {
        var ended: [PeerID] = []
        while let first = expiries.first, first.at <= now {
            expiries.removeFirst()
            guard let reservation = reservations[first.peer], reservation.expiresAt == first.at else { continue }
            forget(first.peer, reservation)
            ended.append(first.peer)
        }
        return ended
    }

    private mutating func forget(_ peer: PeerID, _ reservation: Reservation) {
        reservations[peer] = nil
        holders[reservation.connection] = nil
        if let range = reservation.range { release(range, in: &reservationsByRange) }
    }

    private func release<Key>(_ key: Key, in counts: inout [Key: Int]) {
        let left = (counts[key] ?? 1) - 1
        counts[key] = left > 0 ? left : nil
    }
}
