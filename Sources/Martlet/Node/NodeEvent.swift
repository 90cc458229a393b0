public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// What happens to a node's peers.
public enum NodeEvent: Sendable {
    /// The first connection to a peer is there.
    case connected(PeerID, address: Multiaddr, isOutbound: Bool)
    /// A peer told who it is: its software and the protocols it speaks.
    case identified(PeerID, agent: String?, protocols: [String])
    /// Another connection to a peer than before is used from now on: the kind of path it takes.
    case pathChanged(PeerID, PathKind)
    /// The last connection to a peer is gone, for the reason given.
    case disconnected(PeerID, reason: String)
}

/// A connected peer.
public struct PeerStatus: Sendable {
    public let peer: PeerID
    public let address: Multiaddr
    public let isOutbound: Bool
    /// The latest round-trip time and how long ago it was measured.
    public let roundTrip: Duration?
    public let roundTripAge: Duration?
    public let connectedFor: Duration
    public let agent: String?
    public let protocols: [String]
    /// Whether the connection is relayed, direct or within the local network.
    public let path: PathKind
}
