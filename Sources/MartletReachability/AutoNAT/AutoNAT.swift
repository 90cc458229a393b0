public import MartletCore

/// AutoNAT v2: asking peers to dial an address of ours back, to learn whether strangers reach it
/// (libp2p specs/autonat/autonat-v2.md).
public enum AutoNAT {
    public static let dialRequestProtocolID = "/libp2p/autonat/2/dial-request"
    public static let dialBackProtocolID = "/libp2p/autonat/2/dial-back"

    /// Bytes of a message, as go has it.
    public static let messageLimit = 8192
    /// Addresses of a request that are looked at.
    public static let addressLimit = 50
    /// What a server asks a peer to send before it dials an address that is not the peer's own.
    public static let dialDataByteCounts = 30_000...100_000
    /// Bytes of one piece of that data, and the fewest that a piece other than the last may have.
    static let dialDataPieceLimit = 4096
    static let smallestDialDataPiece = 100
    /// Requests of one connection at a time.
    public static let streamLimit = 2
    /// How long a server takes over dialing and saying its nonce. rust-libp2p waits ten seconds for the answer.
    public static let dialTimeout = Duration.seconds(8)
    /// How long a dial from an address that the peer does not talk to has before one from the usual address begins, too.
    public static let strangerHeadStart = Duration.seconds(2)
}

/// Whether strangers reach an address.
public enum Reachability: String, Hashable, Sendable, CaseIterable {
    case unknown
    case `public`
    case `private`
}

/// Where this node knows one of its addresses from.
public enum AddressOrigin: String, Hashable, Sendable, CaseIterable {
    /// An address of an interface, at a port that it listens at.
    case listening
    /// A gateway was asked to forward a port.
    case mapped
    /// Peers said that they see it.
    case observed
    /// A guess: the host that peers see, with the port that this node listens at, as if somebody had that port forwarded.
    case forwarded
}

/// An address of this node and what is known of it.
public struct AddressReachability: Hashable, Sendable {
    public let address: Multiaddr
    public let origin: AddressOrigin
    public let reachability: Reachability
    /// Peers that reached it, and that did not, when they were last asked.
    public let successCount: Int
    public let failureCount: Int
    /// Of those that reached it, the dials from hosts that this node had sent nothing to. Others may be let in where strangers are not.
    public let strangerCount: Int

    public init(
        address: Multiaddr, origin: AddressOrigin, reachability: Reachability, successCount: Int, failureCount: Int,
        strangerCount: Int
    ) {
        self.address = address
        self.origin = origin
        self.reachability = reachability
        self.successCount = successCount
        self.failureCount = failureCount
        self.strangerCount = strangerCount
    }
}
