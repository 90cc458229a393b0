import MartletCore

/// A link with a rate, a delay, a queue before it and losses at random, each way.
final class QUICLink {
    private let bytesPerSecond: Int64
    private let delay: Duration
    private let longestQueue: Duration
    private let lossPerMille: Int
    private var random = RandomSource(seed: 77)
    /// When what is queued will have left, to the client and to the server.
    private var isFree = [Instant(nanoseconds: 0), Instant(nanoseconds: 0)]
    private(set) var overflowCount = 0

    init(bytesPerSecond: Int64, delay: Duration, longestQueue: Duration, lossPerMille: Int) {
        self.bytesPerSecond = bytesPerSecond
        self.delay = delay
        self.longestQueue = longestQueue
        self.lossPerMille = lossPerMille
    }

    /// When a datagram arrives, or nil if it is lost.
    func arrival(of byteCount: Int, toServer: Bool, now: Instant) -> Instant? {
        let side = toServer ? 1 : 0
        let start = max(now, isFree[side])
        guard start - now <= longestQueue else {
            overflowCount += 1
            return nil
        }
        // The headers of IP and UDP cross it too.
        isFree[side] = start + .nanoseconds(Int64(byteCount + 28) * 1_000_000_000 / bytesPerSecond)
        guard Int.random(in: 0..<1000, using: &random) >= lossPerMille else { return nil }
        return isFree[side] + delay
    }
}
