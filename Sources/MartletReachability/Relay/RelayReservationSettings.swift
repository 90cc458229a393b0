public import MartletConnection
import MartletCore

/// Times of a node's reservations at relays.
public struct RelayReservationSettings: Hashable, Sendable {
    /// A reservation is refreshed when this share of its lifetime has passed, and at the latest after `maximumRefreshDelay`: the
    /// lifetime comes from comparing two clocks, and one of them may be wrong.
    public var refreshShare = 0.5
    public var maximumRefreshDelay = Duration.seconds(600)
    /// What a lifetime that looks shorter, or over already, counts as.
    public var minimumLifetime = Duration.seconds(10)
    /// After the loss of a connection, at most: the clients of a relay that dropped them all do not come back at once.
    public var maximumReturnDelay = Duration.milliseconds(200)
    /// Between attempts to connect: the first, and that after very many. So long a relay that restarts is found again within
    /// few seconds.
    public var firstReconnectDelay = Duration.milliseconds(500)
    public var soonReconnectDelay = Duration.seconds(2)
    public var maximumReconnectDelay = Duration.seconds(30)
    /// After so many failed attempts the delays grow beyond `soonReconnectDelay`.
    public var soonReconnects = 60
    /// After a refusal, doubling from the first to the last.
    public var firstRetryDelay = Duration.seconds(5)
    public var maximumRetryDelay = Duration.seconds(300)
    /// After no answer, or one that is none.
    public var firstFailureDelay = Duration.seconds(1)
    public var maximumFailureDelay = Duration.seconds(60)
    /// How the connection to a relay is kept alive while nobody is connected through it. A relay has thousands of clients, and to
    /// answer them all once a second would be most of its work.
    public var keepAlive = KeepAlive(interval: .seconds(3), deadAfter: .seconds(10))
    /// How often the clocks are compared, and from what difference on the machine is taken to have slept.
    public var clockCheckInterval = Duration.seconds(5)
    public var clockJump = Duration.seconds(10)

    public init() {}

    /// Up to a quarter less, so that those who lost the same relay do not come back in step.
    private func jittered(_ delay: Duration, _ random: inout RandomSource) -> Duration {
        delay * Double.random(in: 0.75...1, using: &random)
    }

    private func doubled(_ delay: Duration, times: Int, limit: Duration) -> Duration {
        var delay = delay
        for _ in 0..<min(times, 32) where delay < limit { delay = delay * 2 }
        return min(delay, limit)
    }

    func returnDelay(_ random: inout RandomSource) -> Duration {
        maximumReturnDelay * Double.random(in: 0...1, using: &random)
    }

    func reconnectDelay(failures: Int, _ random: inout RandomSource) -> Duration {
        let limit = failures > soonReconnects ? maximumReconnectDelay : soonReconnectDelay
        let times = failures > soonReconnects ? failures - soonReconnects + 1 : failures - 1
        return jittered(doubled(firstReconnectDelay, times: times, limit: limit), &random)
    }

    func retryDelay(refusals: Int, isFirm: Bool, _ random: inout RandomSource) -> Duration {
        let first = isFirm ? firstRetryDelay : firstFailureDelay
        let limit = isFirm ? maximumRetryDelay : maximumFailureDelay
        return jittered(doubled(first, times: refusals - 1, limit: limit), &random)
    }

    func refreshDelay(lifetime: Duration, _ random: inout RandomSource) -> Duration {
        min(maximumRefreshDelay, jittered(lifetime * refreshShare, &random))
    }

    /// How long a reservation lasts that ends at `expiration`, in seconds of UNIX time.
    func lifetime(of expiration: UInt64, wallTime: WallTime) -> Duration {
        let second = Int64(1_000_000_000)
        // A year is as good as for ever, and no reason to overflow.
        let end = min(Int64(clamping: expiration), .max / 2)
        return max(minimumLifetime, .seconds(min(end - wallTime.nanosecondsSince1970 / second, 366 * 86_400)))
    }
}
