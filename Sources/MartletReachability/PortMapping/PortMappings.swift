public import MartletCore

/// Keeps the ports of a node forwarded by its gateway: tries the ways of asking one after the other, renews in time, notices
/// when the gateway's address changes, and removes what it made.
///
/// Sans-I/O, on the node's home loop. One request is under way at a time; the owner carries `nextOrder` out and answers.
public struct PortMappings: Sendable {
    public struct Configuration: Sendable {
        /// The ways to ask, the preferred first.
        public var methods: [PortMappingMethod] = [.pcp, .natPMP, .upnp]
        /// Seconds that a mapping is asked for. It is renewed at half of what was given.
        public var lifetime: UInt32 = 3600
        /// The mapping is asked for again at the latest after this, so that a gateway that restarted is noticed.
        public var longestInterval = Duration.seconds(300)
        /// When it is tried again where no way worked, doubled each time up to the longest.
        public var shortestRetry = Duration.seconds(30)
        public var longestRetry = Duration.seconds(1800)
        public var maximumTargets = 16

        public init() {}
    }

    public enum Order: Hashable, Sendable {
        case ask(PortMappingMethod, [PortMappingRequest])
    }

    private struct Round {
        var remaining: [PortMappingTarget]
        /// Ways not tried yet.
        var methods: [PortMappingMethod]
        var failures: [String] = []
    }

    public let configuration: Configuration
    private var targets: [PortMappingTarget] = []
    /// What the gateway forwards.
    public private(set) var mappings: [PortMapping] = []
    /// Why there is no mapping, way by way, when the last round failed.
    public private(set) var failures: [String] = []
    private var round: Round?
    private var nextRound: Instant?
    private var failedRounds = 0
    /// Removals that are not answered.
    private var removals = 0
    /// Everything is to be removed once the round under way is over.
    private var isEnding = false
    private var pending: [Order] = []

    public init(configuration: Configuration = Configuration()) {
        self.configuration = configuration
    }

    // MARK: Output

    public mutating func nextOrder() -> Order? { pending.isEmpty ? nil : pending.removeFirst() }

    public var deadline: Instant? { round == nil ? nextRound : nil }

    /// Whether something was asked that is not answered.
    public var isBusy: Bool { round != nil || removals > 0 }

    // MARK: Input

    /// Which ports are to be forwarded.
    public mutating func update(_ wanted: [PortMappingTarget], now: Instant) {
        var unique: [PortMappingTarget] = []
        for target in wanted where !unique.contains(target) { unique.append(target) }
        let bounded = Array(unique.prefix(configuration.maximumTargets))
        guard bounded != targets else { return }
        targets = bounded
        mappings.removeAll { !bounded.contains($0.target) }
        refresh(now: now)
    }

    /// The network changed, or somebody noticed another address outside: asks again at once.
    public mutating func refresh(now: Instant) {
        failedRounds = 0
        nextRound = targets.isEmpty ? nil : now
        advance(now: now)
    }

    public mutating func advance(now: Instant) {
        mappings.removeAll { $0.expiresAt.map { now >= $0 } ?? false }
        guard let next = nextRound, now >= next, round == nil, removals == 0, !isEnding, !targets.isEmpty else {
            return
        }
        nextRound = nil
        // The way that worked comes first.
        let preferred = mappings.first?.method
        let methods = configuration.methods
        round = Round(
            remaining: targets, methods: [preferred].compactMap(\.self) + methods.filter { $0 != preferred })
        askNext(now: now)
    }

    /// The answers to the requests of an order, in their order; or why the gateway could not be asked this way.
    public mutating func answered(
        _ method: PortMappingMethod, _ result: Result<[(PortMappingRequest, PortMappingAnswer)], PortMappingFailure>,
        externalAddress: IPAddress?, now: Instant
    ) {
        if removals > 0 {
            removals -= 1
            return
        }
        guard round != nil else { return }
        switch result {
        case .success(let answers):
            for (request, answer) in answers { take(request, answer, method, externalAddress, now: now) }
        case .failure(let failure): round?.failures.append("\(failure)")
        }
        if isEnding { remove() } else { askNext(now: now) }
    }

    private mutating func take(
        _ request: PortMappingRequest, _ answer: PortMappingAnswer, _ method: PortMappingMethod,
        _ externalAddress: IPAddress?, now: Instant
    ) {
        switch answer {
        case .mapped(let port, let lifetime):
            guard port != 0, lifetime != 0, targets.contains(request.target) else { return }
            mappings.removeAll { $0.target == request.target }
            mappings.append(
                PortMapping(
                    target: request.target, method: method, externalAddress: externalAddress, externalPort: port,
                    expiresAt: lifetime.map { now + .seconds(Int64($0)) }))
            round?.remaining.removeAll { $0 == request.target }
        case .failed(let reason): round?.failures.append(reason)
        }
    }

    private mutating func askNext(now: Instant) {
        guard var current = round else { return }
        guard !current.remaining.isEmpty, !current.methods.isEmpty else { return finish(current, now: now) }
        let method = current.methods.removeFirst()
        round = current
        let requests = current.remaining.map { target in
            // The same port outside as before, or the same as inside.
            let earlier = mappings.first { $0.target == target }
            return PortMappingRequest(
                target: target, externalPort: earlier?.externalPort ?? target.port, lifetime: configuration.lifetime)
        }
        pending.append(.ask(method, requests))
    }

    private mutating func finish(_ finished: Round, now: Instant) {
        round = nil
        // What no gateway renewed is not relied on.
        mappings.removeAll { finished.remaining.contains($0.target) }
        var seen: Set<String> = []
        failures = finished.remaining.isEmpty ? [] : finished.failures.filter { seen.insert($0).inserted }
        if mappings.isEmpty {
            let factor = Int64(1) << min(failedRounds, 20)
            failedRounds += 1
            let wait = Duration.nanoseconds(
                configuration.shortestRetry.nanoseconds.multipliedReportingOverflow(by: factor).partialValue)
            nextRound = now + min(wait, configuration.longestRetry)
        } else {
            failedRounds = 0
            let half = mappings.compactMap(\.expiresAt).map { Duration.nanoseconds(($0 - now).nanoseconds / 2) }.min()
            nextRound =
                now + max(.seconds(1), min(half ?? configuration.longestInterval, configuration.longestInterval))
        }
        // Targets may have changed meanwhile.
        if targets.contains(where: { target in
            !finished.remaining.contains(target) && !mappings.contains { $0.target == target }
        }) {
            nextRound = now
            advance(now: now)
        }
    }

    /// Has everything removed that was made: the node stops.
    public mutating func removeAll() {
        isEnding = true
        nextRound = nil
        if round == nil || !pending.isEmpty { remove() }
    }

    private mutating func remove() {
        targets = []
        round = nil
        pending = []
        for method in configuration.methods {
            let requests = mappings.filter { $0.method == method }.map {
                PortMappingRequest(target: $0.target, externalPort: $0.externalPort, lifetime: 0)
            }
            if !requests.isEmpty { pending.append(.ask(method, requests)) }
        }
        removals = pending.count
        mappings = []
    }
}

/// Why a gateway could not be asked.
public struct PortMappingFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
