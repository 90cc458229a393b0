public import MartletCore

/// When a session pings, how long that takes, and when the peer counts as dead. Times in nanoseconds.
///
/// A ping goes out when nothing was received for the keep-alive interval; likewise when nothing was sent for it, so that
/// a peer whose own pings wait behind much data hears from us; and now and then for the sake of the round trip. One
/// is under way at a time, and only the answer with its own number counts (tentacle PR 467), but any byte is a sign of
/// life.
struct YamuxLiveness {
    /// How old the last round trip may get while the connection is busy.
    private static let roundTripLifetime: Int64 = 15_000_000_000
    /// The same in intervals of the keep-alive, where that is longer: a connection that is to rest is not kept busy by this.
    private static let roundTripIntervals: Int64 = 6
    /// A call this late means that the own loop stood still; what the peer sent meanwhile is then still unread.
    private static let lateness: Int64 = 250_000_000
    private static let never = Int64.max

    private var interval: Int64
    private var deadAfter: Int64
    private var lastReceived: Int64
    private var lastSent: Int64
    private var lastPing: Int64
    /// Pings that still go out at once, each after the answer to the one before.
    private var initialPings: Int
    private var outstanding: UInt32?
    /// The smoothed round trip (RFC 6298, 2.3); nil before the first answer.
    private(set) var roundTrip: Int64?
    /// The shortest round trip of the last minutes: that of the path, without the time that data spends in queues.
    private(set) var pathRoundTrip: Int64?
    /// The shortest one since `epochStart`: what `pathRoundTrip` will be when the epoch is over, lest a path that became
    /// longer count as short for ever.
    private var epochShortest = Int64.max
    private var epochStart: Int64 = 0
    private static let epochLength: Int64 = 600_000_000_000
    /// A ping is to be sent; the first one at once, for the round trip.
    private(set) var pingIsDue = true
    /// When the ping under way was asked for: it may have to wait until anything can be sent.
    private var pingRequested: Int64
    private var grace: Int64 = 0
    /// Until when a peer that was doubted has to have said something.
    private var probeEnd = never

    init(configuration: ConnectionConfiguration, now: Instant) {
        interval = configuration.keepAliveInterval?.nanoseconds ?? Self.never
        deadAfter = configuration.deadAfter?.nanoseconds ?? Self.never
        lastReceived = now.nanoseconds
        lastSent = now.nanoseconds
        lastPing = now.nanoseconds
        pingRequested = now.nanoseconds
        initialPings = configuration.initialPings - 1
    }

    mutating func set(_ keepAlive: KeepAlive) {
        interval = keepAlive.interval?.nanoseconds ?? Self.never
        deadAfter = keepAlive.deadAfter?.nanoseconds ?? Self.never
    }

    /// Asks the peer now, and expects an answer within `time`.
    mutating func probe(within time: Duration, now: Instant) {
        guard probeEnd == Self.never else { return }
        probeEnd = sum(now.nanoseconds, time.nanoseconds)
        guard outstanding == nil, !pingIsDue else { return }
        pingIsDue = true
        pingRequested = now.nanoseconds
    }

    mutating func received(now: Instant) {
        lastReceived = now.nanoseconds
        probeEnd = Self.never
    }
    mutating func sent(now: Instant) { lastSent = now.nanoseconds }

    /// Returns the value that the ping carries.
    mutating func pingSent(value: UInt32, now: Instant) -> UInt32 {
        pingIsDue = false
        outstanding = value
        lastPing = now.nanoseconds
        return value
    }

    /// The round trip that an answer proves; nil for one that was not asked for.
    mutating func pingAnswered(_ value: UInt32, now: Instant) -> Duration? {
        guard value == outstanding else { return nil }
        outstanding = nil
        let sample = max(0, now.nanoseconds - lastPing)
        roundTrip = roundTrip.map { $0 + (sample - $0) / 8 } ?? sample
        notePath(sample, now: now.nanoseconds)
        if initialPings > 0 {
            initialPings -= 1
            pingIsDue = true
            pingRequested = now.nanoseconds
        }
        return .nanoseconds(sample)
    }

    private mutating func notePath(_ sample: Int64, now: Int64) {
        if now - epochStart >= Self.epochLength {
            if epochShortest < Int64.max { pathRoundTrip = epochShortest }
            epochShortest = Int64.max
            epochStart = now
        }
        epochShortest = min(epochShortest, sample)
        pathRoundTrip = min(pathRoundTrip ?? sample, sample)
    }

    private var nextPing: Int64 {
        guard interval != Self.never, outstanding == nil, !pingIsDue else { return Self.never }
        let (rest, overflow) = interval.multipliedReportingOverflow(by: Self.roundTripIntervals)
        let lifetime = overflow ? Self.never : max(Self.roundTripLifetime, rest)
        return min(sum(min(lastReceived, lastSent), interval), sum(lastPing, lifetime))
    }

    private var death: Int64 {
        min(deathInSilence, probeEnd == Self.never ? Self.never : max(probeEnd, grace))
    }

    private var deathInSilence: Int64 {
        guard deadAfter != Self.never else { return Self.never }
        let silent = sum(lastReceived, deadAfter)
        guard interval != Self.never else { return max(silent, grace) }
        // A peer that was not asked cannot be called dead: the ping goes first.
        guard outstanding != nil || pingIsDue else { return Self.never }
        return max(silent, sum(pingRequested, max(0, deadAfter - interval)), grace)
    }

    var deadline: Instant? {
        let next = min(nextPing, death)
        return next == Self.never ? nil : Instant(nanoseconds: next)
    }

    /// Returns how long the peer has been silent when it counts as dead.
    mutating func timeout(now: Instant) -> Duration? {
        if now.nanoseconds >= nextPing {
            pingIsDue = true
            pingRequested = now.nanoseconds
        }
        let death = death
        guard now.nanoseconds >= death else { return nil }
        if now.nanoseconds - death > Self.lateness {
            grace = now.nanoseconds + Self.lateness
            return nil
        }
        return .nanoseconds(now.nanoseconds - lastReceived)
    }

    private func sum(_ time: Int64, _ span: Int64) -> Int64 {
        let (result, overflow) = time.addingReportingOverflow(span)
        return overflow ? Self.never : result
    }
}

extension YamuxSession {
    /// Bytes came from the peer, of whatever kind.
    func receivedAnything(now: Instant) { liveness.received(now: now) }

    public var deadline: Instant? {
        guard !hasEnded else { return nil }
        guard let closingUntil else { return liveness.deadline }
        return min(closingUntil, liveness.deadline ?? closingUntil)
    }

    public func handleTimeout(now: Instant) {
        guard !hasEnded else { return }
        if let closingUntil, now >= closingUntil {
            pendingGoAway = .normal
            conclude(.closedLocally)
        } else if let silence = liveness.timeout(now: now) {
            conclude(.unresponsive(silence))
        }
    }

    func setKeepAlive(_ keepAlive: KeepAlive?, now: Instant) { liveness.set(keepAlive ?? configuration.keepAlive) }

    func probe(now: Instant) {
        guard !hasEnded, let time = configuration.probeTime else { return }
        liveness.probe(within: time, now: now)
    }

    /// The session ends with an error; the peer is told, if it still listens.
    func end(_ reason: ConnectionCloseReason, telling code: GoAwayCode?) {
        guard !hasEnded else { return }
        conclude(reason)
        pendingGoAway = code
        answers.removeAll()
    }

    /// The smoothed round trip to the peer.
    public var roundTrip: Duration? { liveness.roundTrip.map { .nanoseconds($0) } }
}
