public import MartletCore

/// A rate that bursts of up to a tenth of a second may exceed, counted in bytes.
public struct TokenBucket: Sendable {
    /// Bytes a second.
    public let rate: Int
    /// The most that can be taken at once, in bytes.
    public let burst: Int
    private var tokens: Int
    private var filledAt: Instant

    public init(rate: Int, now: Instant) {
        precondition(rate > 0, "a rate of \(rate) bytes a second")
        self.rate = rate
        burst = max(16 * 1024, rate / 10)
        tokens = burst
        filledAt = now
    }

    /// Takes up to `count` bytes, as many as there are.
    public mutating func take(upTo count: Int, now: Instant) -> Int {
        fill(now)
        let taken = max(0, min(count, tokens))
        tokens -= taken
        return taken
    }

    /// When `count` bytes, or as many as the bucket holds, can be taken.
    public func availability(of count: Int, now: Instant) -> Instant {
        let missing = min(count, burst) - tokens
        guard missing > 0 else { return now }
        return max(now, filledAt + .nanoseconds(Int64((Double(missing) * 1e9 / Double(rate)).rounded(.up))))
    }

    private mutating func fill(_ now: Instant) {
        guard now > filledAt else { return }
        let gained = (now - filledAt).secondsAsDouble * Double(rate)
        guard gained < Double(burst - tokens) else {
            tokens = burst
            filledAt = now
            return
        }
        // Whole bytes only, and the time of just those: what is left of a byte is not lost.
        let whole = Int(gained)
        guard whole > 0 else { return }
        tokens += whole
        filledAt = filledAt + .nanoseconds(Int64(Double(whole) * 1e9 / Double(rate)))
    }
}
