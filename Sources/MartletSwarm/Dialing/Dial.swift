import MartletCore
import MartletIdentity

/// A dial under way.
struct Dial {
    /// Addresses of one relay that a dial remembers.
    static let relayAddressLimit = 8

    let peer: PeerID?
    let expiresAt: Instant
    private(set) var race: AddressRace
    var requests: [DialRequest] = []
    /// Attempts under way and when each is given up.
    var attempts: [(id: ConnectionID, address: Multiaddr, expiresAt: Instant)] = []
    /// Whoever waits was given a relayed connection, and only direct addresses are still tried: one of them would be better.
    var isBackground = false
    /// Machines that said at one address that nobody is there: most likely nobody is at their others either.
    private var refusedHosts: Set<Multiaddr> = []
    /// Where the relays are that the peer may be reached through.
    private var relays: [PeerID: [Multiaddr]] = [:]

    /// - Parameter addresses: those of relays may name the relay in several ways; there is one attempt for each relay.
    init(peer: PeerID?, addresses: [Multiaddr], local: PeerID, expiresAt: Instant, now: Instant) {
        self.peer = peer
        self.expiresAt = expiresAt
        race = AddressRace(addresses: [], now: now)
        add(addresses, local: local)
    }

    mutating func add(_ addresses: [Multiaddr], local: PeerID) {
        race.add(
            addresses.compactMap { address in
                guard address.isCircuit else { return address }
                return addRelay(address, local: local)
            })
    }

    /// The address of the attempt through the relay; nil when there can be none.
    private mutating func addRelay(_ address: Multiaddr, local: PeerID) -> Multiaddr? {
        let circuit: CircuitAddress
        do {
            circuit = try CircuitAddress(address)
        } catch {
            race.refused(address, reason: "\(error)")
            return nil
        }
        guard let peer, circuit.target == nil || circuit.target == peer else {
            race.refused(address, reason: "the address names no peer behind the relay")
            return nil
        }
        guard circuit.relay != local, circuit.relay != peer else {
            race.refused(address, reason: "the relay is this node or the peer itself")
            return nil
        }
        var known = relays[circuit.relay] ?? []
        if let transport = circuit.relayAddress, known.count < Self.relayAddressLimit, !known.contains(transport) {
            known.append(transport)
        }
        relays[circuit.relay] = known
        return CircuitAddress.remoteAddress(through: circuit.relay)
    }

    func addresses(of relay: PeerID) -> [Multiaddr] { relays[relay] ?? [] }

    // MARK: The race

    mutating func nextAttempt(now: Instant) -> Multiaddr? { race.nextAttempt(now: now) }

    mutating func failed(
        _ address: Multiaddr, reason: String, isRefusal: Bool = false, repeatAt: Instant? = nil, now: Instant
    ) {
        if isRefusal, !address.isCircuit {
            refusedHosts.insert(address.host)
            for index in attempts.indices where attempts[index].address.host == address.host {
                attempts[index].expiresAt = min(attempts[index].expiresAt, now + DialSettings.refusedHostTimeout)
            }
        }
        // What would begin when the time of the dial is up need not be waited for.
        let repeatAt = repeatAt.flatMap { $0 < expiresAt ? $0 : nil }
        race.failed(address, reason: reason, isRefusal: isRefusal, repeatAt: repeatAt, now: now)
    }

    /// Whether the machine at a direct address has refused at another of its addresses.
    func isRefused(_ address: Multiaddr) -> Bool { !address.isCircuit && refusedHosts.contains(address.host) }

    mutating func resolvingInsteadOfRunning(_ address: Multiaddr) { race.resolvingInsteadOfRunning(address) }
    mutating func finishedResolving(now: Instant) { race.finishedResolving(now: now) }
    mutating func finishedRelayed() { race.finishedRelayed() }

    var deadline: Instant {
        let attempt = attempts.lazy.map(\.expiresAt).min() ?? .distantFuture
        return min(expiresAt, race.deadline ?? .distantFuture, attempt)
    }
}

/// Somebody who waits for a dial.
struct DialRequest {
    let id: RequestID
    /// A connection through a relay is no answer to it.
    let isDirect: Bool
}
