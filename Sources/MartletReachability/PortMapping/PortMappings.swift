public import MartletCore

/// Keeps the ports of a node forwarded by its gateway: finds out which ways of asking it knows, has the ports forwarded by the best
/// of them, renews in time, notices when the gateway restarted or its address changed, and removes what it made.
///
/// All ways are tried at once with a question that changes nothing, and only one is then asked to forward: a gateway keeps one
/// table for all of them, where giving back what one way made would take away what another did.
///
/// Sans-I/O, on the node's home loop. The owner carries `nextOrder` out and answers.
public struct PortMappings: Sendable {
    public struct Configuration: Sendable {
        /// The ways to ask, the preferred first.
        public var methods: [PortMappingMethod] = [.pcp, .natPMP, .upnp]
        /// How long a preferred way may take to answer once another has.
        public var preference = Duration.milliseconds(50)
        /// Seconds that a mapping is asked for. It is renewed at half of what was given.
        public var lifetime: UInt32 = 3600
        /// The mapping is asked for again at the latest after this, so that a gateway that restarted is noticed.
        public var longestInterval = Duration.seconds(300)
        /// When it is tried again where no way worked, doubled each time up to the longest.
        public var shortestRetry = Duration.seconds(30)
        public var longestRetry = Duration.seconds(1800)
        public var maximumTargets = 16
        /// What comes unasked from the gateway makes the node ask no sooner after it asked before.
        public var shortestInterval = Duration.seconds(2)

        public init() {}
    }

    public enum Order: Hashable, Sendable {
        /// Find out whether the gateway can be asked this way, and answer with `probed`.
        case probe(PortMappingMethod)
        case ask(PortMappingMethod, [PortMappingRequest])
    }

    /// From the first question until all ports are forwarded or no way is left.
    private struct Round {
        var remaining: [PortMappingTarget]
        /// Ways of earlier mappings that are asked for those again before any other.
        var renewing: [PortMappingMethod]
        /// Ways whose probe is not answered; nil while none was sent.
        var probing: [PortMappingMethod]?
        /// Ways that the gateway knows and that were not asked yet.
        var ready: [PortMappingMethod] = []
        var asking: PortMappingMethod?
        /// When a preferred way is no longer waited for.
        var choiceAt: Instant?
        var failures: [(method: PortMappingMethod, reason: String)] = []
    }

    private static let tolerance = Duration.seconds(2)

    public let configuration: Configuration
    private var targets: [PortMappingTarget] = []
    /// What the gateway forwards.
    public private(set) var mappings: [PortMapping] = []
    /// Why there is no mapping, way by way, when the last round failed.
    public private(set) var failures: [String] = []
    private var round: Round?
    private var nextRound: Instant?
    private var lastRoundAt: Instant?
    private var failedRounds = 0
    private var epochs: [PortMappingMethod: GatewayEpoch] = [:]
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

    public var deadline: Instant? {
        guard let round else { return nextRound }
        return round.asking == nil ? round.choiceAt : nil
    }

    /// Whether something was asked that may have changed the gateway and is not answered.
    public var isBusy: Bool { round?.asking != nil || removals > 0 }

    /// Whether it is not known yet what the gateway says.
    public var isUndecided: Bool { round != nil && mappings.isEmpty }

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

    /// The gateway said unasked how long it has had its state: asks again at once when it lost it.
    ///
    /// - Parameter delay: by chance, so that not all that heard it ask at once.
    public mutating func announced(_ method: PortMappingMethod, epoch: UInt32, delay: Duration, now: Instant) {
        var known = epochs[method, default: GatewayEpoch()]
        // A gateway may announce itself in another way than it forwards ports. What it forwards is older than its state then.
        let isYounger =
            known.isUnknown && lastRoundAt.map { now - $0 > Duration.seconds(Int64(epoch)) + Self.tolerance } ?? false
        let isLost = known.note(epoch, now: now) || isYounger
        epochs[method] = known
        guard !targets.isEmpty, !isEnding, isLost || mappings.isEmpty else { return }
        let earliest = max(now + delay, lastRoundAt.map { $0 + configuration.shortestInterval } ?? now)
        nextRound = min(nextRound ?? earliest, earliest)
        failedRounds = 0
    }

    public mutating func advance(now: Instant) {
        mappings.removeAll { $0.expiresAt.map { now >= $0 } ?? false }
        if round != nil { return choose(now: now) }
        guard let next = nextRound, now >= next, removals == 0, !isEnding, !targets.isEmpty else { return }
        nextRound = nil
        lastRoundAt = now
        let used = Set(mappings.map(\.method))
        round = Round(remaining: targets, renewing: configuration.methods.filter(used.contains))
        choose(now: now)
    }

    /// Whether the gateway can be asked this way, or why not.
    public mutating func probed(
        _ method: PortMappingMethod, _ result: Result<Void, PortMappingFailure>, epoch: UInt32? = nil, now: Instant
    ) {
        if let epoch { _ = epochs[method, default: GatewayEpoch()].note(epoch, now: now) }
        guard var current = round, let index = current.probing?.firstIndex(of: method) else { return }
        current.probing?.remove(at: index)
        switch result {
        case .success: current.ready.append(method)
        case .failure(let failure): current.failures.append((method, "\(failure)"))
        }
        round = current
        choose(now: now)
    }

    /// The answers to the requests of an order, in their order; or why the gateway could not be asked this way.
    public mutating func answered(
        _ method: PortMappingMethod, _ result: Result<[(PortMappingRequest, PortMappingAnswer)], PortMappingFailure>,
        externalAddress: IPAddress?, epoch: UInt32? = nil, now: Instant
    ) {
        if let epoch { _ = epochs[method, default: GatewayEpoch()].note(epoch, now: now) }
        if removals > 0 {
            removals -= 1
            return
        }
        guard round?.asking == method else { return }
        round?.asking = nil
        switch result {
        case .success(let answers):
            for (request, answer) in answers { take(request, answer, method, externalAddress, now: now) }
        case .failure(let failure): round?.failures.append((method, "\(failure)"))
        }
        if isEnding { remove() } else { choose(now: now) }
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
        case .failed(let reason): round?.failures.append((method, reason))
        }
    }

    // MARK: Choosing whom to ask

    /// Asks the next way, or waits for one, or ends the round.
    private mutating func choose(now: Instant) {
        guard var current = round, current.asking == nil else { return }
        guard !current.remaining.isEmpty else { return finish(current, now: now) }
        if !current.renewing.isEmpty {
            let method = current.renewing.removeFirst()
            let mine = current.remaining.filter { target in
                mappings.first { $0.target == target }.map { $0.method == method } ?? true
            }
            round = current
            return mine.isEmpty ? choose(now: now) : ask(method, for: mine)
        }
        guard let probing = current.probing else {
            current.probing = configuration.methods
            round = current
            pending += configuration.methods.map { .probe($0) }
            return
        }
        guard let best = configuration.methods.first(where: current.ready.contains) else {
            return probing.isEmpty ? finish(current, now: now) : ()
        }
        let better = configuration.methods.prefix { $0 != best }
        if better.contains(where: probing.contains) {
            let choiceAt = current.choiceAt ?? now + configuration.preference
            round?.choiceAt = choiceAt
            guard now >= choiceAt else { return }
        }
        round?.ready.removeAll { $0 == best }
        round?.choiceAt = nil
        ask(best, for: current.remaining)
    }

    private mutating func ask(_ method: PortMappingMethod, for targets: [PortMappingTarget]) {
        round?.asking = method
        let requests = targets.map { target in
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
        noteFailures(of: finished)
        if mappings.isEmpty {
            let factor = Int64(1) << min(failedRounds, 20)
            failedRounds += 1
            let wait = Duration.nanoseconds(
                configuration.shortestRetry.nanoseconds.multipliedReportingOverflow(by: factor).partialValue)
            plan(now + min(wait, configuration.longestRetry))
        } else {
            failedRounds = 0
            let half = mappings.compactMap(\.expiresAt).map { Duration.nanoseconds(($0 - now).nanoseconds / 2) }.min()
            plan(now + max(.seconds(1), min(half ?? configuration.longestInterval, configuration.longestInterval)))
        }
        // Targets may have changed meanwhile.
        if targets.contains(where: { target in
            !finished.remaining.contains(target) && !mappings.contains { $0.target == target }
        }) {
            nextRound = now
            advance(now: now)
        }
    }

    /// An announcement during the round may want the next one sooner.
    private mutating func plan(_ next: Instant) { nextRound = min(nextRound ?? next, next) }

    private mutating func noteFailures(of finished: Round) {
        failures = []
        guard !finished.remaining.isEmpty else { return }
        for method in configuration.methods {
            for failure in finished.failures where failure.method == method && !failures.contains(failure.reason) {
                failures.append(failure.reason)
            }
        }
    }

    // MARK: The end

    /// The network is gone, and with it whatever was made there.
    public mutating func forget() {
        (targets, mappings, pending, failures) = ([], [], [], [])
        (round, nextRound, removals) = (nil, nil, 0)
    }

    /// Has everything removed that was made: the node stops.
    public mutating func removeAll() {
        isEnding = true
        nextRound = nil
        let isAsked = !pending.contains { if case .ask = $0 { true } else { false } }
        if round?.asking == nil || !isAsked { remove() }
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
