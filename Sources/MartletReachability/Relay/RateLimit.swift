public import MartletCore
import Synchronization

/// A rate that circuits on several loops share.
public final class RateLimit: Sendable {
    private let bucket: Mutex<TokenBucket>

    /// - Parameter rate: bytes a second.
    public init(rate: Int, now: Instant) {
        bucket = Mutex(TokenBucket(rate: rate, now: now))
    }

    /// Takes up to `count` bytes, as many as there are.
    public func take(upTo count: Int, now: Instant) -> Int {
        bucket.withLock { $0.take(upTo: count, now: now) }
    }

    /// When `count` bytes can be taken, if nobody else takes them.
    public func availability(of count: Int, now: Instant) -> Instant {
        bucket.withLock { $0.availability(of: count, now: now) }
    }
}
