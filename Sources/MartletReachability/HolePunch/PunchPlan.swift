import MartletCore

/// What one side does in one attempt. Both sides make theirs from the same two descriptions, so they agree without asking.
struct PunchPlan: Hashable, Sendable {
    /// What is done about a NAT that gives every destination another port.
    enum Tactic: Hashable, Sendable {
        /// Nothing: both sides send to the addresses given.
        case plain
        /// This side's ports cannot be known: it sends from many sockets, each with a mapping of its own, to `targets`, and
        /// waits for one of them to be hit.
        case spread(sockets: Int, to: [TransportAddress], after: Duration)
        /// The other side's ports cannot be known: probes to `first`, then to ports drawn at random, of `host`.
        case guess(IPAddress, first: [UInt16], after: Duration)
        /// Both NATs count: both sides send one packet to each of the other's next ports, in step, so that the k-th packet of
        /// each leaves from the very port that the other's k-th packet goes to.
        case lockstep(IPAddress, ports: [UInt16])

        var name: String {
            switch self {
            case .plain: "plain"
            case .spread: "spread"
            case .guess: "guess"
            case .lockstep: "lockstep"
            }
        }
    }

    /// Where probes go from the main socket.
    var targets: [TransportAddress]
    /// Where TCP connects to.
    var tcpTargets: [TransportAddress]
    /// Whether this side is the client of a TCP connection.
    var isTCPClient: Bool
    var tactic: Tactic
    /// After that the attempt has failed.
    var duration: Duration

    /// How long a plain attempt takes: handshakes over a long path, twice repeated.
    private static let plainDuration = Duration.milliseconds(1500)
    /// A hundred seconds of guessing would be rude; four find a hole in all but one case of a million.
    private static let guessDuration = Duration.milliseconds(5000)
    /// What a plain attempt may take before ports are guessed: a NAT that lets strangers in needs no guessing.
    private static let patience = Duration.milliseconds(120)
    /// Some routers take a packet that nobody asked for as the beginning of a flow of their own, and give the port of our
    /// answer away to it. Such a NAT must send first, so the sockets wait until many ports have been guessed. Of 256 sockets one then leaves from a guessed port in all but one case of several hundred.
    private static let lateness = Duration.milliseconds(1800)
    /// Next ports tried when a NAT counts: others may have taken some.
    private static let nextPortCount = 48
    /// Sockets that a side opens when its next ports are known.
    private static let predictedSockets = 16
    private static let lockstepCount = 64

    /// - Parameter isDialer: whether this side dials once there is a path.
    static func make(
        isDialer: Bool, local: PunchDescription, remote: PunchDescription, attempt: Int, limits: PunchLimits
    ) -> PunchPlan {
        let targets = local.targets(of: remote, \.udp, limits: limits)
        let tcpTargets = local.targets(of: remote, \.tcp, limits: limits)
        let isTCPClient = isTCPClient(isDialer: isDialer, local: local, remote: remote)
        let tactic = tactic(isDialer, local, remote, attempt, limits)
        switch tactic {
        case .plain:
            return PunchPlan(
                targets: targets, tcpTargets: tcpTargets, isTCPClient: isTCPClient, tactic: tactic,
                duration: plainDuration)
        case .spread, .guess:
            return PunchPlan(
                targets: targets, tcpTargets: tcpTargets, isTCPClient: isTCPClient, tactic: tactic,
                duration: guessDuration)
        case .lockstep:
            // Every other packet to the internet would take a port and bring the two out of step.
            return PunchPlan(
                targets: targets.filter { !$0.isIPv4 || !$0.isPublic }, tcpTargets: [], isTCPClient: isTCPClient,
                tactic: tactic, duration: plainDuration)
        }
    }

    /// Whether this side is the client of a TCP connection to the peer. A side that may come from another port than it named
    /// is, for the other takes it for a stranger; otherwise it is the side that dials.
    static func isTCPClient(isDialer: Bool, local: PunchDescription, remote: PunchDescription) -> Bool {
        local.isTCPUnsure == remote.isTCPUnsure ? isDialer : local.isTCPUnsure
    }

    private static func tactic(
        _ isDialer: Bool, _ local: PunchDescription, _ remote: PunchDescription, _ attempt: Int, _ limits: PunchLimits
    ) -> Tactic {
        guard let own = local.publicIPv4, let other = remote.publicIPv4, own.ip != other.ip else { return .plain }
        // A second attempt is for routers that a packet nobody asked for puts out of step: there the guesses come first.
        let delays = attempt > 1 ? (spread: lateness, guess: .zero) : (spread: patience, guess: patience)
        switch (local.isSymmetric, remote.isSymmetric) {
        case (true, true):
            let ports = remote.nextPorts(lockstepCount)
            // Both must come to the same conclusion.
            return ports.isEmpty || local.nextPorts(lockstepCount).isEmpty
                ? .plain : .lockstep(other.ip, ports: ports)
        case (true, false): return spread(local, remote, after: delays.spread, limits)
        case (false, true): return guess(remote, other.ip, after: delays.guess)
        case (false, false):
            // A NAT that few could tell about may be symmetric all the same. When the plain way fails, one side acts as if.
            guard attempt > 1 else { return .plain }
            return isDoubtful(local, remote, isDialer, attempt)
                ? spread(local, remote, after: delays.spread, limits) : guess(remote, other.ip, after: delays.guess)
        }
    }

    /// Whether this side is the likelier to be symmetric without knowing it; if neither is, they take turns.
    private static func isDoubtful(
        _ local: PunchDescription, _ remote: PunchDescription, _ isDialer: Bool, _ attempt: Int
    ) -> Bool {
        func doubt(_ nat: NATKind) -> Int {
            nat.mapping == .unknown ? 2 : nat.mapping == .none || nat.allocation == .preserving ? 0 : 1
        }
        let own = doubt(local.nat)
        let other = doubt(remote.nat)
        return own == other ? isDialer == (attempt % 2 == 0) : own > other
    }

    private static func spread(
        _ local: PunchDescription, _ remote: PunchDescription, after: Duration, _ limits: PunchLimits
    ) -> Tactic {
        let targets = remote.udp.filter { $0.isIPv4 && $0.isPublic }.prefix(2)
        let count = local.nextPorts(1).isEmpty ? limits.extraSockets : min(predictedSockets, limits.extraSockets)
        return .spread(sockets: count, to: Array(targets), after: after)
    }

    private static func guess(_ remote: PunchDescription, _ host: IPAddress, after: Duration) -> Tactic {
        .guess(host, first: remote.nextPorts(nextPortCount), after: remote.nextPorts(1).isEmpty ? after : .zero)
    }
}
