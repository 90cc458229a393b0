import DequeModule
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Keeps reservations at the relays that a node was given: connects to them, reserves, refreshes in time, and begins anew when a
/// connection or a relay is lost.
///
///     reservations.handleTimeout(now: now, wallTime: wallTime)
///     while let order = reservations.nextOrder() { … }
///     timer.schedule(at: reservations.deadline)
///
/// A value without I/O, fed on the node's home loop. What it costs a relay is bounded: attempts that fail are repeated ever more
/// seldom, and no two nodes do so in step.
public struct RelayReservations {
    /// What is wanted done; drained after every input.
    public enum Order: Hashable, Sendable {
        /// Find or make a direct connection; answered by `connected` or `connectFailed`. Peer nil: whoever is there.
        case connect(RelayID, PeerID?, at: [Multiaddr])
        /// Ask for a reservation over this connection; answered by `answered`.
        case reserve(RelayID, ConnectionID)
        /// Tell peers of these addresses instead of those told before, and keep connections to the relays.
        case announce([Multiaddr])
        case event(RelayEvent)
    }

    /// One of the relays given, by its place among them.
    public struct RelayID: Hashable, Comparable, Sendable {
        public let index: Int
        public static func < (left: RelayID, right: RelayID) -> Bool { left.index < right.index }
    }

    public let local: PeerID
    public let settings: RelayReservationSettings
    private(set) var relays: [Relay] = []
    private var announced: [Multiaddr] = []
    private var orders: Deque<Order> = []
    private var random: RandomSource
    /// Both clocks at the last look, to notice when the machine slept or its clock was set.
    private var clocks: (now: Instant, wallTime: WallTime)

    public init(
        relays addresses: [Multiaddr], local: PeerID, settings: RelayReservationSettings = RelayReservationSettings(),
        random: RandomSource, now: Instant, wallTime: WallTime
    ) {
        self.local = local
        self.settings = settings
        self.random = random
        clocks = (now, wallTime)
        for address in addresses {
            let peer = address.peerID
            if let peer, let index = relays.firstIndex(where: { $0.peer == peer }) {
                relays[index].addresses.append(address.withoutPeerID)
            } else {
                relays.append(Relay(peer: peer, address: address.withoutPeerID, now: now))
            }
        }
    }

    // MARK: Output

    public mutating func nextOrder() -> Order? { orders.popFirst() }

    /// When `handleTimeout` has work.
    public var deadline: Instant? {
        guard !relays.isEmpty else { return nil }
        return relays.reduce(clocks.now + settings.clockCheckInterval) { min($0, $1.deadline ?? $0) }
    }

    /// Whether connections that this relay brings are to be taken: it was asked to bring some.
    public func isReachable(through peer: PeerID) -> Bool { relays.contains { $0.peer == peer && $0.wasAsked } }

    /// The connections that reservations hang on.
    public var connections: [ConnectionID] { relays.compactMap(\.connection) }

    public var statuses: [ReservationStatus] { relays.map { $0.status(at: clocks.now) } }

    // MARK: Time

    public mutating func handleTimeout(now: Instant, wallTime: WallTime) {
        noticeSleep(now: now, wallTime: wallTime)
        for index in relays.indices { advance(index, now: now) }
    }

    /// A machine that slept comes back with other addresses and reservations that are gone, and nothing has told it.
    private mutating func noticeSleep(now: Instant, wallTime: WallTime) {
        let passed = now - clocks.now
        let shown = Duration.nanoseconds(
            wallTime.nanosecondsSince1970 &- clocks.wallTime.nanosecondsSince1970)
        clocks = (now, wallTime)
        let jump = shown - passed
        guard jump > settings.clockJump || jump < .zero - settings.clockJump else { return }
        for index in relays.indices { relays[index].hurry(now: now) }
    }

    /// The machine is in another network: relays that could not be reached are tried again at once, and reservations renewed.
    public mutating func networkChanged(now: Instant) {
        for index in relays.indices {
            relays[index].connectFailures = 0
            relays[index].hurry(now: now)
        }
    }

    private mutating func advance(_ index: Int, now: Instant) {
        if let expiry = relays[index].reservation?.expiresAt, now >= expiry {
            lose(index, "the reservation expired and the relay did not renew it", now: now)
        }
        guard let due = relays[index].nextStep, now >= due else { return }
        relays[index].nextStep = nil
        let id = RelayID(index: index)
        if let connection = relays[index].connection {
            relays[index].wasAsked = true
            relays[index].isAsking = true
            orders.append(.reserve(id, connection))
        } else {
            relays[index].isConnecting = true
            orders.append(.connect(id, relays[index].peer, at: relays[index].addresses))
        }
    }

    // MARK: Connections

    /// - Parameters:
    ///   - address: where the relay was dialed; nil when it was the relay that dialed.
    ///   - roundTrip: as far as it is known.
    public mutating func connected(
        _ id: RelayID, _ peer: PeerID, over connection: ConnectionID, at address: Multiaddr?, roundTrip: Duration?,
        now: Instant
    ) {
        relays[id.index].isConnecting = false
        guard peer != local, !relays.indices.contains(where: { $0 != id.index && relays[$0].peer == peer }) else {
            // The same relay by another name; once is enough.
            relays[id.index].lastFailure = peer == local ? "this is the node itself" : "the relay was given twice"
            return
        }
        relays[id.index].peer = peer
        relays[id.index].connection = connection
        relays[id.index].dialedAddress = address?.withoutPeerID
        if let roundTrip { relays[id.index].roundTrip = roundTrip }
        relays[id.index].connectFailures = 0
        relays[id.index].nextStep = now
        advance(id.index, now: now)
    }

    public mutating func connectFailed(_ id: RelayID, _ reason: String, now: Instant) {
        relays[id.index].isConnecting = false
        relays[id.index].connectFailures += 1
        let delay = settings.reconnectDelay(failures: relays[id.index].connectFailures, &random)
        relays[id.index].nextStep = now + delay
        fail(id.index, reason)
    }

    /// A connection is gone, perhaps one that a reservation hung on.
    public mutating func connectionClosed(_ connection: ConnectionID, _ reason: String, now: Instant) {
        guard let index = relays.firstIndex(where: { $0.connection == connection }) else { return }
        relays[index].connection = nil
        relays[index].isAsking = false
        relays[index].refusals = 0
        lose(index, reason, now: now)
        // Soon: perhaps there is another connection, and if the relay was restarted, its port is open again before long.
        relays[index].nextStep = now + settings.returnDelay(&random)
    }

    public mutating func roundTrip(_ time: Duration, of connection: ConnectionID) {
        guard let index = relays.firstIndex(where: { $0.connection == connection }) else { return }
        let isFirst = relays[index].roundTrip == nil
        relays[index].roundTrip = time
        if isFirst, relays[index].reservation != nil { announce(reordering: true) }
    }

    // MARK: Answers

    public mutating func answered(
        _ id: RelayID, over connection: ConnectionID, _ outcome: ReservationRequest.Outcome, now: Instant,
        wallTime: WallTime
    ) {
        guard relays[id.index].connection == connection, relays[id.index].isAsking else { return }
        relays[id.index].isAsking = false
        switch outcome {
        case .reserved(let reservation, let limit):
            relays[id.index].refusals = 0
            relays[id.index].lastFailure = nil
            reserved(id.index, reservation, limit, now: now, wallTime: wallTime)
        case .refused(let status): refused(id.index, "the relay answered \(status)", isFirm: true, now: now)
        case .failed(let reason): refused(id.index, reason, isFirm: false, now: now)
        }
    }

    private mutating func reserved(
        _ index: Int, _ reservation: CircuitReservation, _ limit: ConnectionLimit?, now: Instant, wallTime: WallTime
    ) {
        guard let peer = relays[index].peer else { return }
        let lifetime = settings.lifetime(of: reservation.expiration, wallTime: wallTime)
        let isNew = relays[index].reservation == nil
        let voucher = reservation.voucher.flatMap { try? ReservationVoucher.open($0) }
        relays[index].reservation = Relay.Reservation(
            expiresAt: now + lifetime, addresses: relays[index].announcedAddresses(reservation.addresses), limit: limit,
            hasVoucher: voucher?.relay == peer && voucher?.client == local)
        relays[index].nextStep = now + settings.refreshDelay(lifetime: lifetime, &random)
        announce()
        if isNew {
            orders.append(.event(.reserved(peer, addresses: relays[index].reservation?.addresses ?? [])))
        }
    }

    private mutating func refused(_ index: Int, _ reason: String, isFirm: Bool, now: Instant) {
        relays[index].refusals += 1
        let delay = settings.retryDelay(refusals: relays[index].refusals, isFirm: isFirm, &random)
        relays[index].nextStep = now + delay
        fail(index, reason)
    }

    /// Tells of a failure when it is the first, or another one than before.
    private mutating func fail(_ index: Int, _ reason: String) {
        guard relays[index].lastFailure != reason else { return }
        relays[index].lastFailure = reason
        orders.append(.event(.failed(relays[index].peer, at: relays[index].addresses[0], reason: reason)))
    }

    private mutating func lose(_ index: Int, _ reason: String, now: Instant) {
        guard relays[index].reservation != nil, let peer = relays[index].peer else { return }
        relays[index].reservation = nil
        announce()
        orders.append(.event(.lost(peer, reason: reason)))
    }

    /// The addresses at the nearest relay first. The order is settled anew when the set changes, not with every round trip.
    private mutating func announce(reordering: Bool = false) {
        let ranked = relays.indices.filter { relays[$0].reservation != nil }.sorted { left, right in
            let (a, b) = (relays[left].roundTrip, relays[right].roundTrip)
            if a != b { return (a ?? .seconds(3600)) < (b ?? .seconds(3600)) }
            return left < right
        }
        let addresses = ranked.flatMap { relays[$0].reservation?.addresses ?? [] }
        guard reordering ? addresses != announced : Set(addresses) != Set(announced) else { return }
        announced = addresses
        orders.append(.announce(addresses))
    }
}

/// What happens at the relays of a node.
public enum RelayEvent: Hashable, Sendable {
    /// Peers can now reach the node through this relay.
    case reserved(PeerID, addresses: [Multiaddr])
    case lost(PeerID, reason: String)
    /// The relay could not be reached, or refused; the node keeps trying.
    case failed(PeerID?, at: Multiaddr, reason: String)
}
