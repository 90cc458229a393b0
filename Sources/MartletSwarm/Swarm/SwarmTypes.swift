public import MartletConnection
public import MartletCore
public import MartletIdentity

/// Names a request of the application; the order that answers it repeats the name.
public struct RequestID: Hashable, Comparable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: RequestID, right: RequestID) -> Bool { left.rawValue < right.rawValue }
}

/// What the swarm wants done; its owner drains these after every input.
public enum SwarmOrder: Sendable {
    /// Connect to an address (without names in it) and run a `PeerConnection` under this id on it.
    case dial(ConnectionID, Multiaddr, expecting: PeerID?)
    /// Connect to a peer through a relay, to which a direct connection is made first if there is none: at the addresses
    /// given, or at those known.
    case dialThroughRelay(ConnectionID, PeerID, at: [Multiaddr], to: PeerID)
    /// Look up the names in an address and answer with `resolved`.
    case resolve(RequestID, Multiaddr)
    /// End a connection, or a dial that is still under way. `closed` or `dialFailed` must follow.
    case close(ConnectionID, String)
    /// End a connection when no stream is open on it.
    case retire(ConnectionID)
    /// Keep a connection that was to be retired: it is the one to use again.
    case reinstate(ConnectionID)
    /// Tell this peer what changed about us.
    case pushIdentify(ConnectionID)
    /// The answer to `connect`.
    case completed(RequestID, Result<ConnectedPeer, DialError>)
    case event(SwarmEvent)
}

/// A peer and the connection to use for it.
public struct ConnectedPeer: Hashable, Sendable {
    public let peer: PeerID
    public let connection: ConnectionID
}

/// What happens to a node's peers, told to the application.
public enum SwarmEvent: Sendable {
    /// The first connection to a peer is there.
    case connected(PeerID, address: Multiaddr, role: ConnectionRole)
    /// A peer said who it is.
    case identified(PeerID, IdentifyInfo)
    /// Of the connections to a peer, another one is now the one to use; what runs on the old one is best moved there.
    case pathChanged(PeerID, ConnectionID, PathKind)
    /// The last connection to a peer is gone.
    case disconnected(PeerID, reason: ConnectionCloseReason)
}

/// Why connections to a peer are not closed to make room for others.
public enum ProtectionReason: Hashable, Sendable {
    /// The application wants to stay connected to it.
    case kept
    /// It is a relay that this node is reached through.
    case relay
    /// It holds a reservation at this node.
    case reservation
}

/// One connection as the application sees it.
public struct ConnectionInfo: Sendable {
    public let id: ConnectionID
    public let peer: PeerID
    public let role: ConnectionRole
    public let remoteAddress: Multiaddr
    public let establishedAt: Instant
    /// The latest round-trip time measured and when.
    public let roundTrip: Duration?
    public let roundTripAt: Instant?
    public let agentVersion: String?
    public let protocols: [String]
    public let isRetiring: Bool
    public let path: PathKind
    /// How much the relay lets through; nil when it set no limit, or there is no relay.
    public let limit: ConnectionLimit?
}
