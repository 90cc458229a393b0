public import MartletCore

/// Races the addresses of one peer, as Happy Eyeballs does (RFC 8305): the next attempt starts when the last one fails or has
/// been silent for a while, and the first to finish wins.
///
/// Relays have a line of their own behind the direct addresses. It starts one delay after them however many there are, since
/// the addresses of a peer behind a NAT do not fail: nothing answers there. When all relays have failed, one that did so for a
/// reason that may pass is asked once more.
///
/// A value: it is told what happened and says what to start.
public struct AddressRace: Sendable {
    /// RFC 8305, section 5, recommends 250 ms between attempts.
    public static let attemptDelay = Duration.milliseconds(250)
    static let addressLimit = 64
    static let concurrentLimit = 8
    /// Relays tried for one peer, and how many of them at a time.
    static let relayLimit = 8
    static let concurrentRelayLimit = 3

    public private(set) var failures: [DialError.Failure] = []
    private var waiting: [Multiaddr]
    private var seen: Set<Multiaddr>
    private var running: [Multiaddr] = []
    private var resolving = 0
    private var nextStart: Instant

    private var waitingRelayed: [Multiaddr] = []
    private var seenRelayed: Set<Multiaddr> = []
    private var runningRelayed: [Multiaddr] = []
    private var nextRelayedStart: Instant
    /// A connection through a relay is there: only better ones are looked for.
    private var isRelayedDone = false
    private var repetition = Repetition.unused

    /// The second attempt through a relay.
    private enum Repetition {
        /// No relay has failed in a way that may pass.
        case unused
        /// This one has: it is asked again at that time, unless another one is still to be heard of.
        case planned(Multiaddr, at: Instant)
        /// Begun, or not needed.
        case done
    }

    public init(addresses: [Multiaddr], now: Instant) {
        waiting = []
        seen = []
        nextStart = now
        nextRelayedStart = now + Self.attemptDelay
        add(addresses)
    }

    /// Adds addresses found later (a name was resolved), in front of what is waiting.
    public mutating func add(_ addresses: [Multiaddr]) {
        var fresh: [Multiaddr] = []
        for address in addresses {
            if address.isCircuit {
                guard !isRelayedDone, seenRelayed.count < Self.relayLimit else { continue }
                if seenRelayed.insert(address).inserted { waitingRelayed.append(address) }
            } else if seen.count < Self.addressLimit, seen.insert(address).inserted {
                fresh.append(address)
            }
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
        if !waiting.isEmpty, now >= nextStart, running.count < Self.concurrentLimit {
            let address = waiting.removeFirst()
            running.append(address)
            nextStart = now + Self.attemptDelay
            return address
        }
        guard let address = nextRelayed(now: now) else { return nil }
        runningRelayed.append(address)
        nextRelayedStart = now + Self.attemptDelay
        return address
    }

    private mutating func nextRelayed(now: Instant) -> Multiaddr? {
        if let planned = plannedRepetition {
            guard now >= planned.at else { return nil }
            repetition = .done
            return planned.address
        }
        guard !waitingRelayed.isEmpty, runningRelayed.count < Self.concurrentRelayLimit,
            now >= nextRelayedStart || (!hasDirect && runningRelayed.isEmpty)
        else { return nil }
        return waitingRelayed.removeFirst()
    }

    /// The relay that is to be asked again, when no other one is left.
    private var plannedRepetition: (address: Multiaddr, at: Instant)? {
        guard waitingRelayed.isEmpty, runningRelayed.isEmpty, case .planned(let address, let at) = repetition else {
            return nil
        }
        return (address, at)
    }

    /// Whether a direct address may still lead to the peer.
    public var hasDirect: Bool { !waiting.isEmpty || !running.isEmpty || resolving > 0 }

    /// When to ask `nextAttempt` again even if nothing happens.
    public var deadline: Instant? {
        let direct = waiting.isEmpty || running.count >= Self.concurrentLimit ? nil : nextStart
        let isWaitingForRelay = !waitingRelayed.isEmpty && runningRelayed.count < Self.concurrentRelayLimit
        let relayed = isWaitingForRelay ? nextRelayedStart : plannedRepetition?.at
        guard let direct, let relayed else { return direct ?? relayed }
        return min(direct, relayed)
    }

    /// An attempt failed: the next one may start at once.
    ///
    /// - Parameter repeatAt: when a relay may be asked again, once; nil when that would be in vain.
    public mutating func failed(
        _ address: Multiaddr, reason: String, isRefusal: Bool = false, repeatAt: Instant? = nil, now: Instant
    ) {
        let tries = 1 + (failures.first { $0.address == address }?.tries ?? 0)
        // Of a relay that was asked twice the last answer counts.
        if tries > 1 { failures.removeAll { $0.address == address } }
        failures.append(.init(address: address, reason: reason, isRefusal: isRefusal, tries: tries))
        if address.isCircuit {
            runningRelayed.removeAll { $0 == address }
            nextRelayedStart = now
            if let repeatAt, !isRelayedDone, case .unused = repetition { repetition = .planned(address, at: repeatAt) }
        } else {
            running.removeAll { $0 == address }
            nextStart = now
        }
    }

    /// An address cannot be tried at all.
    public mutating func refused(_ address: Multiaddr, reason: String) {
        guard failures.count < 2 * Self.addressLimit else { return }
        failures.append(.init(address: address, reason: reason))
    }

    /// A connection through a relay was made: no other relay is tried, direct addresses are.
    public mutating func finishedRelayed() {
        isRelayedDone = true
        waitingRelayed = []
        runningRelayed = []
        repetition = .done
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
    public var isLost: Bool {
        !hasDirect && waitingRelayed.isEmpty && runningRelayed.isEmpty && plannedRepetition == nil
    }
}
