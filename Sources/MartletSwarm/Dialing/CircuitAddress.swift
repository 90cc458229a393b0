public import MartletCore
public import MartletIdentity

/// An address that leads through a relay: `<relay's address>/p2p/<relay>/p2p-circuit/p2p/<target>`.
///
/// The relay's address may be missing (it is then looked up), and so may the target (the address of a reservation before it
/// is announced, or of a relayed connection).
public struct CircuitAddress: Hashable, Sendable {
    /// Where the relay is, without its peer id; nil when the address does not say.
    public let relayAddress: Multiaddr?
    public let relay: PeerID
    public let target: PeerID?

    public init(relayAddress: Multiaddr?, relay: PeerID, target: PeerID?) {
        self.relayAddress = relayAddress
        self.relay = relay
        self.target = target
    }

    /// Why an address that names a circuit is not one that can be used.
    public enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        case notACircuit
        /// A bare `/p2p-circuit` stands for any relay; nobody knows which.
        case namesNoRelay
        /// Relays do not connect through other relays.
        case severalRelays
        /// Something else than a peer id stands behind `/p2p-circuit`.
        case unknownEnd

        public var description: String {
            switch self {
            case .notACircuit: "the address leads through no relay"
            case .namesNoRelay: "the address does not name its relay"
            case .severalRelays: "the address leads through several relays"
            case .unknownEnd: "the address goes on behind the relay with something else than a peer id"
            }
        }
    }

    public init(_ address: Multiaddr) throws(Fault) {
        let parts = Array(address.components)
        let circuits = parts.indices.filter { parts[$0] == .p2pCircuit }
        guard let circuit = circuits.first else { throw .notACircuit }
        guard circuits.count == 1 else { throw .severalRelays }
        let front = parts[..<circuit]
        let behind = parts[(circuit + 1)...]
        guard case .p2p(let bytes)? = front.last, let relay = try? PeerID(bytes: bytes) else { throw .namesNoRelay }
        // Another peer id in front of the relay's would be a relay by another name.
        guard !front.dropLast().contains(where: { $0.code == .p2p }) else { throw .severalRelays }
        self.relay = relay
        switch (behind.count, behind.first) {
        case (0, _): target = nil
        case (1, .p2p(let bytes)?):
            guard let peer = try? PeerID(bytes: bytes) else { throw .unknownEnd }
            target = peer
        default: throw .unknownEnd
        }
        relayAddress = front.count > 1 ? address.prefix(before: .p2pCircuit)?.droppingLast() : nil
    }

    /// The address that peers see a relayed connection come from: the relay's id and no more.
    public static func remoteAddress(through relay: PeerID) -> Multiaddr {
        do {
            return try Multiaddr([.p2p(relay.bytes), .p2pCircuit])
        } catch {
            preconditionFailure("a peer id and a circuit are an address: \(error)")
        }
    }

    /// `<relay's address>/p2p/<relay>/p2p-circuit`; nil beyond the limits of an address.
    public static func announced(relay: PeerID, at address: Multiaddr) -> Multiaddr? {
        try? address.encapsulating(peer: relay).encapsulating(.p2pCircuit)
    }
}
