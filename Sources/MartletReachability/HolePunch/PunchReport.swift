public import MartletCore
public import MartletIdentity

/// What became of an attempt to get a direct connection to a peer, for people who want to know why there is none.
public struct PunchReport: Hashable, Sendable {
    /// How far it came.
    public enum Stage: String, Hashable, Comparable, Sendable, CaseIterable {
        /// Nothing was heard of the peer yet.
        case signalling
        /// Both sides know each other's addresses.
        case exchanged
        /// Both sides sent packets to each other.
        case probing
        /// A packet of the peer came through.
        case heard
        case connected

        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
        public static func < (left: Stage, right: Stage) -> Bool { left.rank < right.rank }
    }

    /// How the two sides found each other.
    public enum Method: String, Hashable, Sendable {
        /// `/libp2p/dcutr`.
        case dcutr
        /// `/martlet/punch/1`.
        case martlet
    }

    public var peer: PeerID?
    public var method: Method
    /// Whether this side dials: it is the one that opened the relayed connection.
    public var isDialer: Bool
    public var startedAt: Instant
    public var endedAt: Instant?
    public var stage = Stage.signalling
    /// The attempt that the punch is at, from 1.
    public var attempt = 1
    /// What was done about ports: plain, spread, guess or lockstep.
    public var tactic: String?
    public var localAddresses: [Multiaddr] = []
    public var remoteAddresses: [Multiaddr] = []
    /// The addresses of the peer that packets were sent to, or connections dialed.
    public var triedAddresses: [Multiaddr] = []
    public var localNAT = NATKind()
    /// What the peer says of its NAT; unknown over DCUtR.
    public var remoteNAT = NATKind()
    /// The round trip over the relay.
    public var roundTrip: Duration?
    public var packetsSent = 0
    public var packetsHeard = 0
    public var outcome: PunchOutcome?

    public init(method: Method, isDialer: Bool, startedAt: Instant) {
        self.method = method
        self.isDialer = isDialer
        self.startedAt = startedAt
    }

    public var duration: Duration? { endedAt.map { $0 - startedAt } }

    /// Takes in what was found out of the own NAT while the attempt went on.
    package mutating func learned(_ nat: NATKind) {
        if localNAT.mapping == .unknown { localNAT.mapping = nat.mapping }
        if localNAT.filtering == .unknown { localNAT.filtering = nat.filtering }
        if localNAT.allocation == .unknown { localNAT.allocation = nat.allocation }
    }

    mutating func reached(_ stage: Stage) { self.stage = max(self.stage, stage) }

    mutating func tried(_ address: Multiaddr) {
        if !triedAddresses.contains(address), triedAddresses.count < 16 { triedAddresses.append(address) }
    }
}
