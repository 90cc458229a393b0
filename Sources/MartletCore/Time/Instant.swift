#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A moment on a monotonic clock, in nanoseconds from an arbitrary start. Under simulation the clock is virtual.
@frozen
public struct Instant: Hashable, Comparable, Sendable {
    public var nanoseconds: Int64

    @inlinable
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// The system's monotonic clock. Only drivers read it; machines are told the time.
    public static func systemNow() -> Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// Later than every deadline.
    @inlinable public static var distantFuture: Instant { Instant(nanoseconds: .max) }

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    /// Stays at the end of the range instead of overflowing: delays may come from peers.
    @inlinable
    public static func + (left: Instant, right: Duration) -> Instant {
        let delay = right.nanoseconds
        let (sum, overflow) = left.nanoseconds.addingReportingOverflow(delay)
        return Instant(nanoseconds: overflow ? (delay < 0 ? .min : .max) : sum)
    }

    /// The time from `right` to `left`; negative when `left` is earlier.
    @inlinable
    public static func - (left: Instant, right: Instant) -> Duration {
        let (difference, overflow) = left.nanoseconds.subtractingReportingOverflow(right.nanoseconds)
        return .nanoseconds(overflow ? (left < right ? .min : .max) : difference)
    }
}

extension Duration {
    /// The whole duration in nanoseconds, at most 292 years either way.
    @inlinable
    public var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carried) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }

    /// The duration in units of its name, fractions included.
    @inlinable public var microseconds: Double { Double(nanoseconds) / 1e3 }
    @inlinable public var milliseconds: Double { Double(nanoseconds) / 1e6 }
    @inlinable public var secondsAsDouble: Double { Double(nanoseconds) / 1e9 }
}

/// Seconds since 1970, for what leaves the process: record expiry, sequence numbers of peer records, logs.
public struct WallTime: Hashable, Comparable, Sendable {
    public var nanosecondsSince1970: Int64

    public init(nanosecondsSince1970: Int64) { self.nanosecondsSince1970 = nanosecondsSince1970 }

    public static func systemNow() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanosecondsSince1970: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    public static func < (left: WallTime, right: WallTime) -> Bool {
        left.nanosecondsSince1970 < right.nanosecondsSince1970
    }
}
