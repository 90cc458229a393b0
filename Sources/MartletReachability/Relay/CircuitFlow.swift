public import MartletCore

/// One direction of a circuit at its relay: how many bytes may pass, and when their sender may send more.
///
/// Bytes that came in are handed on at once. The sender is granted as many more only when they have left the queue of the
/// stream they go out on, but for `queueLimit` bytes, and as the rates allow: so a receiver that is slow, or slowed down, slows
/// its sender, and no more waits here than the sender's window and the queue limit.
public struct CircuitFlow: Sendable {
    /// Bytes that may be queued before the sender is slowed down.
    public let queueLimit: Int
    /// Bytes that may still pass; nil without a limit.
    private var remaining: UInt64?
    private var bucket: TokenBucket?
    /// Bytes that came in and that the sender was not granted again yet.
    public private(set) var owed = 0
    /// Bytes that have passed.
    public private(set) var passed: UInt64 = 0

    public init(byteLimit: UInt64?, rate: Int?, queueLimit: Int, now: Instant) {
        remaining = byteLimit
        bucket = rate.map { TokenBucket(rate: $0, now: now) }
        self.queueLimit = queueLimit
    }

    /// Takes note of `count` bytes that came in. Returns how many of them may pass: fewer when the limit is reached.
    public mutating func received(_ count: Int) -> Int {
        let allowed = min(UInt64(count), remaining ?? .max)
        remaining = remaining.map { $0 - allowed }
        passed += allowed
        owed += count
        return Int(allowed)
    }

    /// How many bytes the sender is granted now.
    public struct Grant: Hashable, Sendable {
        public var byteCount: Int
        /// When to ask again although nothing happened: a rate holds bytes back.
        public var nextAttempt: Instant?
        /// To ask again when the queue has fallen to this many bytes.
        public var queueMark: Int?
    }

    /// - Parameters:
    ///   - queued: bytes that wait in the outgoing stream.
    ///   - shared: the rate of all circuits together.
    public mutating func grant(queued: Int, shared: RateLimit?, now: Instant) -> Grant {
        let held = min(owed, max(0, queued - queueLimit))
        let wanted = owed - held
        var grant = Grant(byteCount: wanted)
        if wanted > 0, bucket != nil || shared != nil { limit(&grant, shared, now) }
        owed -= grant.byteCount
        // Half a queue at a time, so that grants are worth their while.
        if held > 0 { grant.queueMark = max(queueLimit, queued - queueLimit / 2) }
        return grant
    }

    private mutating func limit(_ grant: inout Grant, _ shared: RateLimit?, _ now: Instant) {
        let wanted = grant.byteCount
        if let taken = bucket?.take(upTo: wanted, now: now) { grant.byteCount = taken }
        let own = grant.byteCount
        if let shared { grant.byteCount = shared.take(upTo: own, now: now) }
        guard grant.byteCount < wanted else { return }
        // What the shared rate refuses was paid to the own one: a little slower then, never faster.
        let byOwn = own < wanted ? bucket?.availability(of: wanted - own, now: now) : nil
        let byShared = grant.byteCount < own ? shared?.availability(of: own - grant.byteCount, now: now) : nil
        let earliest = now + Self.shortestWait
        grant.nextAttempt = max(earliest, byOwn ?? earliest, byShared ?? earliest)
    }

    private static let shortestWait = Duration.milliseconds(2)
}
