/// Circuit relay v2 (libp2p specs, relay/circuit-v2.md): its protocols and sizes.
public enum Circuit {
    /// Between a client and its relay: reservations, and connections to others.
    public static let hopProtocolID = "/libp2p/circuit/relay/0.2.0/hop"
    /// Between a relay and the peer that somebody connects to through it.
    public static let stopProtocolID = "/libp2p/circuit/relay/0.2.0/stop"

    /// The specification's limit on one message, in bytes and without its length prefix.
    public static let messageLimit = 4096
    /// Addresses of a relay that are read from one reservation; more are left out.
    public static let addressLimit = 16
}

extension PrefixedMessageReader {
    /// A reader of the messages of the relay's protocols.
    public static func circuit() -> PrefixedMessageReader {
        PrefixedMessageReader(limit: Circuit.messageLimit, field: "circuit message")
    }
}
