public import MartletCore

/// Races the addresses of one peer, as Happy Eyeballs does (RFC 8305): the next attempt starts when the last one fails or has
/// been silent for a while, and the first to finish wins.
///
/// A value: it is told what happened and says what to start.
public struct AddressRace: Sendable {
    /// RFC 8305, section 5, recommends 250 ms between attempts.
    public static let attemptDelay = Duration.milliseconds(250)
    static let addressLimit = 64
    static let concurrentLimit = 8

    public private(set) var failures: [DialError.Failure] = []
    private var waiting: [Multiaddr]
    private var seen: Set<Multiaddr>
    private var running: [Multiaddr] = []
    private var resolving = 0
    private var nextStart: Instant

    public init(addresses: [Multiaddr], now: Instant) {
        waiting = []
        seen = []
        nextStart = now
        add(addresses)
    }

    /// Adds addresses found later (a name was resolved), in front of what is waiting.
    public mutating func add(_ addresses: [Multiaddr]) {
        var fresh: [Multiaddr] = []
        for address in addresses where seen.count < Self.addressLimit {
            if seen.insert(address).inserted { fresh.append(address) }
        }
        waiting = Self.sorted(fresh) + waiting
    }

    /// Near addresses first, then IPv6 and IPv4 in turn, beginning with IPv6 (RFC 8305, section 4).
    static func sorted(_ addresses: [Multiaddr]) -> [Multiaddr] {
        let near = addresses.filter { $0.isLoopback || $0.isPrivate || $0.isLinkLocal }
        let far = addresses.filter { !($0.isLoopback || $0.isPrivate || $0.isLinkLocal) }
        return near.sorted { $0.isLoopback && !$1.isLoopback } + interleave(far)
    }

    private static func interleave(_ addresses: [Multiaddr]) -> [Multiaddr] {
        var six = addresses.filter(\.isIPv6)[...]
        var rest = addresses.filter { !$0.isIPv6 }[...]
        var result: [Multiaddr] = []
        while !six.isEmpty || !rest.isEmpty {
            if let address = six.popFirst() { result.append(address) }
            if let address = rest.popFirst() { result.append(address) }
        }
        return result
    }

    /// The next address to try now, if it is time for one.
    public mutating func nextAttempt(now: Instant) -> Multiaddr? {
        guard !waiting.isEmpty, now >= nextStart, running.count < Self.concurrentLimit else { return nil }
        let address = waiting.removeFirst()
        running.append(address)
        nextStart = now + Self.attemptDelay
        return address
    }

    /// When to ask `nextAttempt` again even if nothing happens.
    public var deadline: Instant? {
        waiting.isEmpty || running.count >= Self.concurrentLimit ? nil : nextStart
    }

    /// An attempt failed: the next one may start at once.
    public mutating func failed(_ address: Multiaddr, reason: String, now: Instant) {
        running.removeAll { $0 == address }
        failures.append(.init(address: address, reason: reason))
        nextStart = now
    }

    /// The attempt just given out is a name to look up first: it does not count as running, and the addresses behind the
    /// name need not wait for a turn of their own.
    public mutating func resolvingInsteadOfRunning(_ address: Multiaddr) {
        running.removeAll { $0 == address }
        resolving += 1
    }

    public mutating func finishedResolving(now: Instant) {
        resolving -= 1
        nextStart = now
    }

    /// Nothing runs, nothing waits: every address has failed.
    public var isLost: Bool { waiting.isEmpty && running.isEmpty && resolving == 0 }
}
