public import MartletReachability

/// How a node takes part in AutoNAT v2, by which peers find out whether strangers reach them.
public struct AutoNATSettings: Sendable {
    /// Whether the node asks peers to dial its addresses.
    public var asksPeers = true
    /// Whether it dials the addresses of peers that ask, within `server`'s limits.
    public var servesPeers = true
    public var server = AutoNATServerConfiguration()
    /// How often and how many peers are asked.
    public var client = AutoNATClient.Configuration()
    /// Whether private and loopback addresses are asked about and dialed, too. Only for networks that are private as a whole:
    /// a peer can make this node connect to any machine that it can reach.
    public var allowsPrivateAddresses = false

    public init() {}
}
