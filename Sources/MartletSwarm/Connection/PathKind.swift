public import MartletCore

/// How the bytes of a connection travel, from the worst to the best.
public enum PathKind: String, Hashable, Comparable, Sendable, CaseIterable {
    /// Through a relay, which may limit time and bytes.
    case relayed
    /// From machine to machine over the internet.
    case direct
    /// Without leaving the local network or the machine.
    case lan

    /// The path to what is at `remoteAddress`.
    public init(to remoteAddress: Multiaddr) {
        if remoteAddress.isCircuit {
            self = .relayed
        } else {
            switch remoteAddress.scope {
            case .loopback, .linkLocal, .privateNetwork: self = .lan
            default: self = .direct
            }
        }
    }

    private var rank: Int {
        switch self {
        case .relayed: 0
        case .direct: 1
        case .lan: 2
        }
    }

    public static func < (left: PathKind, right: PathKind) -> Bool { left.rank < right.rank }
}
