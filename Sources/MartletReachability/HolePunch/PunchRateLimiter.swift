public import MartletCore

/// Counts the packets of all punches of a node, so that nobody can have it flood a network or a host.
public struct PunchRateLimiter: Sendable {
    /// Hosts that are counted; beyond that nothing is sent to further ones until some are forgotten.
    public static let hostLimit = 256
    private static let hostWindow = Duration.seconds(300)

    private let packetsPerSecond: Int
    private let packetsPerHost: Int
    private let reservedPerHost: Int
    private var second = Instant(nanoseconds: .min)
    private var count = 0
    private var hosts: [IPAddress: (since: Instant, count: Int)] = [:]

    public init(limits: PunchLimits) {
        packetsPerSecond = limits.packetsPerSecond
        packetsPerHost = limits.packetsPerHost
        reservedPerHost = limits.reservedPerHost
    }

    /// Whether a packet may go to `host` now; counts it if so.
    ///
    /// - Parameter isGuess: to or from a port that is guessed, of which there are thousands. They leave some to plain packets, so
    ///   that a path that opens later is found.
    public mutating func admits(_ host: IPAddress, isGuess: Bool = false, now: Instant) -> Bool {
        if now - second >= .seconds(1) {
            second = now
            count = 0
        }
        guard count < packetsPerSecond else { return false }
        if hosts[host] == nil, hosts.count >= Self.hostLimit {
            hosts = hosts.filter { now - $0.value.since < Self.hostWindow }
            guard hosts.count < Self.hostLimit else { return false }
        }
        var entry = hosts[host] ?? (now, 0)
        if now - entry.since >= Self.hostWindow { entry = (now, 0) }
        guard entry.count < packetsPerHost - (isGuess ? reservedPerHost : 0) else { return false }
        entry.count += 1
        hosts[host] = entry
        count += 1
        return true
    }
}
