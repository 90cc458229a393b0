public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// When to try again to get a direct connection to peers that are reached through a relay, and how often peers may ask.
public struct PunchSchedule: Sendable {
    private struct Entry {
        /// The relayed connection that is to be bettered.
        let connection: ConnectionID
        var next: Instant?
        var failures = 0
        var failedAt: Instant?
    }

    /// Soon at first, for what cut a direct path is often over in a moment; then twice as long each time.
    private static let delays = [5, 15, 30, 60, 120, 240, 480, 600].map { Duration.seconds($0) }
    private static let inboundWindow = Duration.seconds(600)
    /// Peers whose requests are counted.
    static let peerLimit = 1024

    private let limits: PunchLimits
    private var entries: [PeerID: Entry] = [:]
    private var inbound: [PeerID: (since: Instant, count: Int)] = [:]

    public init(limits: PunchLimits) { self.limits = limits }

    /// A punch over `connection` begins.
    public mutating func began(_ peer: PeerID, over connection: ConnectionID) {
        let failures = entries[peer]?.connection == connection ? entries[peer]?.failures ?? 0 : 0
        entries[peer] = Entry(connection: connection, failures: failures)
    }

    /// It failed: the next one waits longer each time.
    public mutating func failed(_ peer: PeerID, now: Instant) {
        guard var entry = entries[peer] else { return }
        entry.next = now + Self.delays[min(entry.failures, Self.delays.count - 1)]
        entry.failedAt = now
        entry.failures += 1
        entries[peer] = entry
    }

    /// There is a direct connection, or no relayed one any more, or the peer cannot do it.
    public mutating func remove(_ peer: PeerID) { entries[peer] = nil }

    /// The relayed connection is gone.
    public mutating func closed(_ connection: ConnectionID) {
        entries = entries.filter { $0.value.connection != connection }
    }

    /// This node is in another network: everything may be different now.
    public mutating func networkChanged(now: Instant) {
        for peer in entries.keys {
            // One that is under way may have begun too early.
            entries[peer]?.failures = 0
            if entries[peer]?.next != nil { entries[peer]?.next = now }
        }
    }

    /// The peer has news of itself, other addresses perhaps: tried again soon, but no sooner after the last time than ever, and no
    /// more often than the peer may begin itself.
    public mutating func hasten(_ peer: PeerID, now: Instant) {
        guard let entry = entries[peer] else { return }
        guard let next = entry.next, let failedAt = entry.failedAt else {
            // One is under way, which may have begun too early.
            if entry.failures > 1, admits(peer, now: now) { entries[peer]?.failures = 0 }
            return
        }
        let earliest = max(now, failedAt + Self.delays[0])
        guard earliest < next, admits(peer, now: now) else { return }
        entries[peer]?.next = earliest
        entries[peer]?.failures = 1
    }

    public var deadline: Instant? { entries.values.lazy.compactMap(\.next).min() }

    /// A peer whose turn it is, with the connection to punch over.
    public mutating func nextDue(now: Instant) -> (PeerID, ConnectionID)? {
        let due = entries.filter { $0.value.next.map { $0 <= now } ?? false }.keys.min()
        guard let due, let entry = entries[due] else { return nil }
        entries[due]?.next = nil
        return (due, entry.connection)
    }

    /// Whether a peer may begin a punch now; counts it if so.
    public mutating func admits(_ peer: PeerID, now: Instant) -> Bool {
        if inbound[peer] == nil, inbound.count >= Self.peerLimit {
            inbound = inbound.filter { now - $0.value.since < Self.inboundWindow }
            guard inbound.count < Self.peerLimit else { return false }
        }
        var entry = inbound[peer] ?? (now, 0)
        if now - entry.since >= Self.inboundWindow { entry = (now, 0) }
        guard entry.count < limits.maximumInboundPunches else { return false }
        entry.count += 1
        inbound[peer] = entry
        return true
    }
}
