public import MartletCore
public import MartletIdentity

/// Why no connection to a peer could be made.
public enum DialError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Nothing is known of where the peer is.
    case noAddresses(PeerID?)
    /// The address given leads back to this node.
    case isSelf
    /// Every address failed, each for its reason.
    case allFailed([Failure])
    case timedOut(Duration, [Failure])
    /// A limit of this node, named, stands in the way.
    case limitReached(String)
    case cancelled

    /// One address and why it did not lead to the peer.
    public struct Failure: Hashable, Sendable {
        public let address: Multiaddr
        public let reason: String
        /// The machine at the address answered that nobody is there, so that trying again soon is in vain.
        public let isRefusal: Bool
        /// How often the address was tried; the reason is that of the last time.
        public let tries: Int

        public init(address: Multiaddr, reason: String, isRefusal: Bool = false, tries: Int = 1) {
            self.address = address
            self.reason = reason
            self.isRefusal = isRefusal
            self.tries = tries
        }

        /// The relay that the attempt went through.
        public var relay: PeerID? { try? CircuitAddress(address).relay }
    }

    /// Whether the peer is not there any more, rather than out of reach for the moment.
    public var isRefusal: Bool {
        if case .allFailed(let failures) = self { !failures.isEmpty && failures.allSatisfy(\.isRefusal) } else { false }
    }

    public var description: String {
        switch self {
        case .noAddresses(let peer?): "no address is known for \(peer)"
        case .noAddresses(nil): "no address was given"
        case .isSelf: "the address is this node's own"
        case .allFailed(let failures): failures.isEmpty ? "no usable address" : Self.list(failures)
        case .timedOut(let time, let failures):
            "no answer within \(time)" + (failures.isEmpty ? "" : "; " + Self.list(failures))
        case .limitReached(let name): "the limit on \(name) is reached"
        case .cancelled: "cancelled"
        }
    }

    private static func list(_ failures: [Failure]) -> String {
        failures.map { "\($0.address): \($0.reason)" + ($0.tries > 1 ? " (tried \($0.tries) times)" : "") }.joined(
            separator: "; ")
    }
}
