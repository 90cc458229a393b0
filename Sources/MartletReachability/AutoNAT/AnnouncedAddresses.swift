public import MartletCore

/// Which addresses a node tells its peers, put together from all that know some.
public struct AnnouncedAddresses: Hashable, Sendable {
    /// Addresses that are sent at most: a peer takes as many from one message (identify).
    public static let limit = 32

    /// Where others reach the node, as whoever runs it says: behind a load balancer or a forwarded port.
    public var given: [Multiaddr] = []
    /// Where the node listens, at the addresses of its interfaces.
    public var listening: [Multiaddr] = []
    /// Addresses that strangers were seen to reach this node at.
    public var confirmed: [Multiaddr] = []
    /// Addresses of relays that hold a reservation for this node, the preferred first.
    public var circuit: [Multiaddr] = []
    /// Addresses that strangers were seen not to reach.
    public var unreachable: Set<Multiaddr> = []

    public init() {}

    /// What to announce, the most useful to a stranger first.
    ///
    /// An address that strangers cannot reach costs everybody who tries it time, so it is left out while there is another way
    /// in from outside.
    public var addresses: [Multiaddr] {
        let hasWayIn = !given.isEmpty || !confirmed.isEmpty || !circuit.isEmpty
        let useful = listening.filter { !hasWayIn || !unreachable.contains($0) }
        var seen: Set<Multiaddr> = []
        let ordered = given + confirmed + useful.filter(\.isPublic) + circuit + useful.filter { !$0.isPublic }
        return Array(ordered.filter { seen.insert($0).inserted }.prefix(Self.limit))
    }
}
