public import MartletCore

/// Notices that the machine or the process slept: connections may be gone, and what NATs had mapped, and nothing has told it.
///
/// Asked at intervals. While a machine sleeps its monotonic clock stands still and that on the wall goes on; while a process is
/// stopped, both go on without it. A clock that is set forwards looks the same, and being wrong costs a few packets.
public struct SleepDetector: Sendable {
    /// What is more than a machine that is busy.
    public static let shortestSleep = Duration.seconds(10)

    private let interval: Duration
    private var last: (now: Instant, wallTime: WallTime)?

    /// - Parameter interval: between two looks.
    public init(interval: Duration) { self.interval = interval }

    /// - Returns: whether there was a sleep since the last look.
    public mutating func look(now: Instant, wallTime: WallTime) -> Bool {
        defer { last = (now, wallTime) }
        guard let last else { return false }
        let shown = Duration.nanoseconds(wallTime.nanosecondsSince1970 &- last.wallTime.nanosecondsSince1970)
        return max(now - last.now, shown) >= interval + Self.shortestSleep
    }
}
