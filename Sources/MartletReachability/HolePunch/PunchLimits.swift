/// What a punch may send and keep. Nobody may make a node flood a third party, so everything is counted.
public struct PunchLimits: Sendable {
    /// Addresses of one transport taken from a peer; the rest is left out.
    public var maximumCandidates = 8
    /// Private addresses among them.
    public var maximumPrivateCandidates = 4
    /// The longest message over the relayed connection, without its length (specs/relay/DCUtR.md).
    public static let messageByteCount = 4096
    /// Rounds of a punch, each agreed on anew.
    public var maximumAttempts = 3
    /// Further UDP sockets of a side whose NAT gives every destination another port.
    public var extraSockets = 256
    /// Probes to guessed ports in a second, and in one attempt.
    public var guessesPerSecond = 1000
    public var maximumGuesses = 4000
    /// Packets that one attempt sends in all.
    public var maximumPackets = 8000
    /// Connections dialed over paths that were found in one attempt.
    public var maximumDials = 4
    /// Punches under way at a time, and those among them that a peer may begin in ten minutes.
    public var maximumPunches = 16
    public var maximumInboundPunches = 20
    /// Packets of all punches in a second, and to one host in five minutes: three attempts of guessing.
    public var packetsPerSecond = 3000
    public var packetsPerHost = 14_000
    /// Those of the latter that are kept for plain packets.
    public var reservedPerHost = 1000
    /// Whether addresses of this machine itself count as good: for tests and for labs on one machine.
    public var takesLoopback = false
    /// How long the other side may take for an answer over the relayed connection.
    public var signalTimeout = Duration.seconds(8)

    public init() {}
}
