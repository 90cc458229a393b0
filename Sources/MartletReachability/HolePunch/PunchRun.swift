import DequeModule
public import MartletCore

/// One side of Martlet's own hole punching (docs/protocols/punch.md).
///
/// The side that opened the relayed connection makes an offer, gets an answer, says "go" and waits half a round trip, so that
/// both begin at once. Then both send probes, as `PunchPlan` says, until one comes through; over the path that it took the
/// dialing side connects by QUIC. TCP is tried beside it.
public final class PunchRun: PunchMachine {
    enum Phase {
        case idle
        /// Somebody is asked where this side's TCP port is seen.
        case learningTCP(until: Instant)
        /// Extra sockets find out which ports the NAT gives now; then an offer or answer is sent.
        case sampling(PortSampler)
        case awaitingAnswer(since: Instant)
        /// Said go; begins when it has arrived.
        case waiting(until: Instant)
        case awaitingGo(until: Instant)
        case running(PunchAttempt)
        case over
    }

    let isDialer: Bool
    let limits: PunchLimits
    var random: RandomSource
    /// What this side says of itself; its ports are measured anew for every attempt when they are not fixed.
    var local: PunchDescription
    var remote: PunchDescription?
    /// Servers that tell which port a socket has outside.
    private let servers: [TransportAddress]
    var phase = Phase.idle
    private var attempt = 0
    /// When the offer came that is to be answered.
    private var offeredAt: Instant
    private var hasLearnedTCP = false
    /// How long others may take to say where the TCP port is seen: a handshake over a long path.
    private static let learningTime = Duration.milliseconds(1500)
    private var ownShare: [UInt8] = []
    private var otherShare: [UInt8] = []
    var key: PunchKey?
    var extraSockets = 0
    private var reader = PrefixedMessageReader.circuit()
    private var isSignallingOver = false
    private var orders: Deque<PunchOrder> = []
    public var report: PunchReport

    /// - Parameters:
    ///   - isDialer: whether this side opened the relayed connection.
    ///   - servers: STUN servers that the main socket has been seen by.
    public init(
        isDialer: Bool, local: PunchDescription, servers: [TransportAddress], limits: PunchLimits = PunchLimits(),
        random: RandomSource, now: Instant
    ) {
        self.isDialer = isDialer
        self.local = local
        self.servers = Array(servers.filter(\.isIPv4).prefix(2))
        self.limits = limits
        self.random = random
        offeredAt = now
        report = PunchReport(method: .martlet, isDialer: isDialer, startedAt: now)
        report.localAddresses = local.udp.map(\.quicMultiaddr) + local.tcp.map(\.tcpMultiaddr)
        report.localNAT = local.nat
    }

    public var session: UInt64? { key?.session }
    public func nextOrder() -> PunchOrder? { orders.popFirst() }
    func order(_ order: PunchOrder) { orders.append(order) }

    // MARK: Signalling

    public func start(now: Instant) {
        guard case .idle = phase, isDialer else { return }
        beginAttempt(1, now: now)
    }

    /// The dialer's next attempt, or the listener's part in it.
    private func beginAttempt(_ number: Int, now: Instant) {
        attempt = number
        report.attempt = number
        ownShare = random.bytes(PunchKey.shareByteCount)
        if extraSockets > 0 {
            extraSockets = 0
            order(.closeSockets)
        }
        if isTCPWanted {
            hasLearnedTCP = true
            phase = .learningTCP(until: now + Self.learningTime)
            return order(.learnTCP)
        }
        sample(now: now)
    }

    /// Whether TCP is the way to the peer, and this side's port of it not known.
    private var isTCPWanted: Bool { !hasLearnedTCP && local.lacksPublicTCP && remote?.isTCPOnly == true }

    public func learnedTCP(_ addresses: [TransportAddress], now: Instant) {
        guard case .learningTCP = phase else { return }
        for address in addresses.reversed() where !local.tcp.contains(address) { local.tcp.insert(address, at: 0) }
        report.localAddresses = local.udp.map(\.quicMultiaddr) + local.tcp.map(\.tcpMultiaddr)
        sample(now: now)
    }

    /// Finds out which ports the NAT gives now, if that helps, before this side speaks.
    private func sample(now: Instant) {
        guard local.isSymmetric, local.publicIPv4 != nil, let server = servers.first else { return speak(now: now) }
        phase = .sampling(PortSampler(server: server, random: &random, now: now))
        order(.openSockets(PortSampler.socketCount))
        socketsOpened(extraSockets, now: now)
    }

    /// Sends the offer, or the answer to one.
    private func speak(now: Instant) {
        if isDialer {
            phase = .awaitingAnswer(since: now)
            signal(.offer(attempt: attempt, secret: ownShare, local))
        } else {
            phase = .awaitingGo(until: now + limits.signalTimeout)
            key = PunchKey(dialer: otherShare, listener: ownShare)
            signal(.answer(attempt: attempt, secret: ownShare, local, held: now - offeredAt))
        }
    }

    private func signal(_ message: PunchMessage) {
        if !isSignallingOver { order(.signal(message.encoded)) }
    }

    public func signalled(_ bytes: Bytes, now: Instant) {
        var bytes = bytes
        do {
            while let message = try reader.next(from: &bytes) {
                if case .over = phase { return }
                try take(PunchMessage(message), now: now)
            }
        } catch {
            fail("\(error)", now: now)
        }
    }

    private func take(_ message: PunchMessage, now: Instant) throws(DecodingError) {
        switch message {
        case .offer(let number, let secret, let description):
            guard !isDialer, number == attempt + 1, number <= limits.maximumAttempts else {
                throw .invalid(field: "punch offer", reason: "attempt \(number) does not follow \(attempt)")
            }
            order(.stopConnecting)
            otherShare = secret
            offeredAt = now
            learned(description)
            beginAttempt(number, now: now)
        case .answer(let number, let secret, let description, let held):
            guard case .awaitingAnswer(let since) = phase, number == attempt else {
                throw .invalid(field: "punch answer", reason: "nobody asked")
            }
            key = PunchKey(dialer: ownShare, listener: secret)
            learned(description)
            if isTCPWanted, attempt < limits.maximumAttempts {
                order(.stopConnecting)
                return beginAttempt(attempt + 1, now: now)
            }
            let roundTrip = max(now - since - held, .zero)
            report.roundTrip = roundTrip
            signal(.go(attempt: attempt))
            phase = .waiting(until: now + roundTrip / 2)
        case .go(let number):
            // A probe may have been faster than the word.
            if case .running = phase, number == attempt { return }
            guard case .awaitingGo = phase, number == attempt else {
                throw .invalid(field: "punch go", reason: "nothing to begin")
            }
            begin(now: now)
        case .done:
            isSignallingOver = true
            if case .running = phase { return }
            fail("the peer gave up", now: now)
        }
    }

    private func learned(_ description: PunchDescription) {
        remote = description
        report.reached(.exchanged)
        report.remoteAddresses = description.udp.map(\.quicMultiaddr) + description.tcp.map(\.tcpMultiaddr)
        report.remoteNAT = description.nat
        let targets = local.targets(of: description, \.tcp, limits: limits)
        guard PunchPlan.isTCPClient(isDialer: isDialer, local: local, remote: description), !targets.isEmpty else {
            return
        }
        order(.expectTCP(from: targets))
    }

    public func signallingEnded(_ reason: String, now: Instant) {
        isSignallingOver = true
        switch phase {
        case .idle, .learningTCP, .sampling, .awaitingAnswer, .awaitingGo: fail(reason, now: now)
        // What was agreed on goes on.
        case .waiting, .running, .over: break
        }
    }

    // MARK: Attempts

    func begin(now: Instant) {
        guard let remote, let key else { return }
        let plan = PunchPlan.make(isDialer: isDialer, local: local, remote: remote, attempt: attempt, limits: limits)
        report.reached(.probing)
        report.tactic = plan.tactic.name
        var attempt = PunchAttempt(
            plan: plan, key: key, isDialer: isDialer, roundTrip: report.roundTrip ?? .milliseconds(200), limits: limits,
            random: &random, now: now)
        for target in plan.tcpTargets {
            report.tried(target.tcpMultiaddr)
            order(.connectTCP(to: target, isClient: plan.isTCPClient))
        }
        attempt.advance(extraSockets: extraSockets, random: &random, now: now)
        finishStep(attempt, now: now)
    }

    /// Takes what an attempt wants done, and sees whether it is over.
    func finishStep(_ attempt: PunchAttempt, now: Instant) {
        var attempt = attempt
        for order in attempt.takeOrders() {
            switch order {
            case .send(_, _, let address):
                report.packetsSent += 1
                report.tried(address.quicMultiaddr)
            case .connectQUIC(_, let address): report.tried(address.quicMultiaddr)
            case .signal, .openSockets, .closeSockets, .acceptQUIC, .learnTCP, .expectTCP, .connectTCP, .stopConnecting,
                .finished:
                break
            }
            self.order(order)
        }
        report.packetsHeard += attempt.takeHeardCount()
        if report.packetsHeard > 0 { report.reached(.heard) }
        phase = .running(attempt)
        if now >= attempt.endsAt { attemptFailed(attempt, now: now) }
    }

    private func attemptFailed(_ attempt: PunchAttempt, now: Instant) {
        let reason =
            report.packetsHeard > 0
            ? "packets came through, but no connection" : "no packet came through (\(attempt.plan.tactic.name))"
        guard self.attempt < limits.maximumAttempts, !isSignallingOver else { return fail(reason, now: now) }
        if isDialer {
            order(.stopConnecting)
            beginAttempt(self.attempt + 1, now: now)
        } else {
            // The dialer's next offer is on its way.
            phase = .awaitingGo(until: now + limits.signalTimeout)
        }
    }

    public func connected(at address: Multiaddr, now: Instant) {
        if case .over = phase { return }
        report.reached(.connected)
        end(.connected(address), now: now)
    }

    private func fail(_ reason: String, now: Instant) {
        if case .over = phase { return }
        end(.failed(reason), now: now)
    }

    private func end(_ outcome: PunchOutcome, now: Instant) {
        phase = .over
        report.outcome = outcome
        report.endedAt = now
        signal(.done)
        order(.stopConnecting)
        order(.finished(outcome))
    }

    // MARK: Sockets and time

    public func socketsOpened(_ count: Int, now: Instant) {
        extraSockets = count
        switch phase {
        case .sampling(var sampler):
            sampler.socketsOpened(extraSockets, now: now)
            step(sampler, now: now)
        case .running(var attempt):
            attempt.advance(extraSockets: extraSockets, random: &random, now: now)
            finishStep(attempt, now: now)
        case .idle, .learningTCP, .awaitingAnswer, .waiting, .awaitingGo, .over: break
        }
    }

    private func step(_ sampler: PortSampler, now: Instant) {
        var sampler = sampler
        for order in sampler.takeOrders() { self.order(order) }
        phase = .sampling(sampler)
        guard sampler.isDone(now: now) else { return }
        local.nat.allocation = sampler.allocation ?? local.nat.allocation
        local.nextPort = sampler.nextPort
        report.localNAT = local.nat
        speak(now: now)
    }

    public func received(_ packet: [UInt8], from address: TransportAddress, on socket: PunchSocket, now: Instant) {
        switch phase {
        case .sampling(var sampler):
            sampler.received(packet, on: socket, now: now)
            step(sampler, now: now)
        case .waiting, .awaitingGo:
            // The other side began; its word to begin is slower than its packets, or our timer late.
            guard let key, let probe = PunchProbe(packet, key: key), probe.isFromDialer != isDialer, remote != nil
            else { return }
            begin(now: now)
            received(packet, from: address, on: socket, now: now)
        case .running(var attempt):
            attempt.received(packet, from: address, on: socket, now: now)
            attempt.advance(extraSockets: extraSockets, random: &random, now: now)
            finishStep(attempt, now: now)
        case .idle, .learningTCP, .awaitingAnswer, .over: break
        }
    }

    public var deadline: Instant? {
        switch phase {
        case .idle, .over: nil
        case .learningTCP(let until): until
        case .sampling(let sampler): sampler.deadline
        case .awaitingAnswer(let since): since + limits.signalTimeout
        case .waiting(let until), .awaitingGo(let until): until
        case .running(let attempt): attempt.deadline
        }
    }

    public func handleTimeout(now: Instant) {
        guard let deadline, now >= deadline else { return }
        switch phase {
        case .idle, .over: break
        case .learningTCP: sample(now: now)
        case .sampling(let sampler): step(sampler, now: now)
        case .awaitingAnswer: fail("the peer did not answer over the relay", now: now)
        case .awaitingGo: fail("the peer did not say when to begin", now: now)
        case .waiting: begin(now: now)
        case .running(var attempt):
            attempt.advance(extraSockets: extraSockets, random: &random, now: now)
            finishStep(attempt, now: now)
        }
    }
}
