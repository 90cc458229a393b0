public import MartletCore
public import MartletIdentity
public import MartletSwarm

extension RelayReservations {
    /// One relay and how far the node has come with it.
    struct Relay {
        struct Reservation {
            let expiresAt: Instant
            let addresses: [Multiaddr]
            let limit: ConnectionLimit?
            let hasVoucher: Bool
        }

        /// Addresses of one relay that are announced.
        static let addressLimit = 4

        var peer: PeerID?
        var addresses: [Multiaddr]
        var connection: ConnectionID?
        /// Where the relay was dialed, when it was not the relay that did.
        var dialedAddress: Multiaddr?
        var roundTrip: Duration?
        var reservation: Reservation?
        var isConnecting = false
        var isAsking = false
        var wasAsked = false
        var connectFailures = 0
        var refusals = 0
        var lastFailure: String?
        /// When to connect, or with a connection, to reserve; nil while an answer is awaited.
        var nextStep: Instant?

        init(peer: PeerID?, address: Multiaddr, now: Instant) {
            self.peer = peer
            addresses = [address]
            nextStep = now
        }

        var deadline: Instant? {
            guard let expiry = reservation?.expiresAt else { return nextStep }
            return min(expiry, nextStep ?? expiry)
        }

        /// Takes the next step at once, unless it is being taken.
        mutating func hurry(now: Instant) {
            if nextStep != nil { nextStep = now }
        }

        /// Where the relay says it is, as far as that is of use to those who can use the way that we took: an address of its
        /// private network is of none to somebody on the internet.
        func announcedAddresses(_ named: [Multiaddr]) -> [Multiaddr] {
            guard let peer else { return [] }
            let own = dialedAddress.map { [$0] } ?? addresses.filter { !$0.needsResolution }
            let reach = own.map(\.reach).max() ?? .internet
            var seen: Set<Multiaddr> = []
            let all = (own + named.filter { !$0.isCircuit && ($0.peerID ?? peer) == peer }).map(\.withoutPeerID)
            return all.filter { $0.reach >= reach && seen.insert($0).inserted }.prefix(Self.addressLimit)
                .compactMap { CircuitAddress.announced(relay: peer, at: $0) }
        }

        func status(at now: Instant) -> ReservationStatus {
            ReservationStatus(
                relay: peer, address: addresses[0], isConnected: connection != nil,
                expiresIn: reservation.map { $0.expiresAt - now }, addresses: reservation?.addresses ?? [],
                limit: reservation?.limit, hasVoucher: reservation?.hasVoucher ?? false, roundTrip: roundTrip,
                lastFailure: lastFailure)
        }
    }
}

/// How a node stands with one of its relays.
public struct ReservationStatus: Hashable, Sendable {
    public let relay: PeerID?
    public let address: Multiaddr
    public let isConnected: Bool
    /// Until the reservation ends, unless it is renewed before; nil without one.
    public let expiresIn: Duration?
    /// Where peers reach the node through this relay.
    public let addresses: [Multiaddr]
    /// What the relay lets through on one connection.
    public let limit: ConnectionLimit?
    /// Whether the relay signed the reservation, so that others can be shown it.
    public let hasVoucher: Bool
    public let roundTrip: Duration?
    /// Why the last attempt failed; nil after one that did not.
    public let lastFailure: String?
}

/// From how far an address can be used.
private enum Reach: Int, Comparable {
    case machine, network, internet
    static func < (left: Reach, right: Reach) -> Bool { left.rawValue < right.rawValue }
}

extension Multiaddr {
    fileprivate var reach: Reach {
        switch scope {
        case .loopback: .machine
        case .linkLocal, .privateNetwork, .carrierNAT: .network
        default: .internet
        }
    }
}
