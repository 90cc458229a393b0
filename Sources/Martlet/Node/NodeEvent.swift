public import MartletCore
public import MartletIdentity
public import MartletReachability
public import MartletSwarm

/// What happens to a node's peers.
public enum NodeEvent: Sendable {
    /// The first connection to a peer is there.
    case connected(PeerID, address: Multiaddr, isOutbound: Bool)
    /// A peer told who it is: its software and the protocols it speaks.
    case identified(PeerID, agent: String?, protocols: [String])
    /// Another connection to a peer than before is used from now on: the kind of path it takes.
    case pathChanged(PeerID, PathKind)
    /// Peers can reach this node through this relay from now on, at these addresses.
    case relayReserved(PeerID, addresses: [Multiaddr])
    case relayLost(PeerID, reason: String)
    /// A relay could not be reached or refused; the node keeps trying.
    case relayFailed(PeerID?, at: Multiaddr, reason: String)
    /// The last connection to a peer is gone, for the reason given.
    case disconnected(PeerID, reason: String)
    /// It became known of some address of this node whether strangers reach it. All addresses are named.
    case reachabilityChanged([AddressReachability])
    /// The gateway forwards a port: the address outside that leads to this node now.
    case portMapped(Multiaddr, by: PortMappingMethod)
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
    /// What the bytes travel over; for a relayed connection, on the way to the relay.
    public let transport: TransportName?
    /// How much the relay lets through on a relayed connection; nil when it set no limit, or there is no relay.
    public let limit: ConnectionLimit?
    /// Whether a relay cuts the connection off after some time or some bytes: nothing for bulk data.
    public var isLimited: Bool { limit?.duration != nil || limit?.byteCount != nil }
    /// Bytes in the last seconds, per second; the connection's own, encryption included.
    public let receivedPerSecond: Double
    public let sentPerSecond: Double
}

/// What a connection's bytes travel over.
public enum TransportName: String, Hashable, Sendable {
    case tcp, quic, unix
}
