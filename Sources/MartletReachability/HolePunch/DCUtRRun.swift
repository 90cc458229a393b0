import DequeModule
public import MartletCore

/// One side of one attempt at a direct connection by `/libp2p/dcutr`, the protocol of other libp2p implementations
/// (specs/relay/DCUtR.md). The side that was reached over the relay opens the stream; a new attempt takes a new run.
public final class DCUtRRun: PunchMachine {
    private enum Phase {
        case idle
        case awaitingConnect(since: Instant)
        /// Said sync; begins when it has arrived.
        case waiting(until: Instant)
        case awaitingSync(until: Instant)
        case running(until: Instant, nextPacket: Instant, dialAt: Instant)
        case over
    }

    /// Whether this side opened the stream: the one that was reached over the relay.
    private let isInitiator: Bool
    /// Whether this side is the client of TCP, and dials QUIC at once; the other dials it later.
    private let isDialer: Bool
    private let addresses: [Multiaddr]
    /// Ports at which the peer says that it listens by TCP. Some name only the port that their relay sees, but dial from these.
    private let listeningPorts: [UInt16]
    private let limits: PunchLimits
    private var random: RandomSource
    private var phase = Phase.idle
    private var targets: [TransportAddress] = []
    private var tcpTargets: [TransportAddress] = []
    private var reader = PrefixedMessageReader.circuit()
    private var orders: Deque<PunchOrder> = []
    public private(set) var report: PunchReport

    /// As long as others give a dial that punches. Not shorter: go-libp2p dials once in that time, whatever it is asked meanwhile.
    private static let duration = Duration.seconds(5)
    /// Listening ports of the peer that are tried.
    public static let portLimit = 2
    /// Between packets that open our NAT for the peer's dial: 10 to 200 ms (specs/relay/DCUtR.md); at first as often as
    /// allowed.
    private static let packetInterval = Duration.milliseconds(10)...Duration.milliseconds(200)
    private static let packetByteCount = 64
    /// Some peers have the roles the other way round, so whoever is not to dial dials QUIC all the same when no connection came
    /// within that time and two round trips.
    private static let patience = Duration.milliseconds(400)

    /// - Parameters:
    ///   - isInitiator: whether this side opened the stream.
    ///   - attempt: from 1. The second attempt swaps the roles, which some peers have the other way round.
    ///   - addresses: where this node may be found, on the internet only.
    ///   - listeningPorts: at which the peer says that it listens by TCP.
    public init(
        isInitiator: Bool, attempt: Int = 1, addresses: [Multiaddr], listeningPorts: [UInt16] = [],
        limits: PunchLimits = PunchLimits(), random: RandomSource, now: Instant
    ) {
        self.isInitiator = isInitiator
        isDialer = isInitiator == (attempt == 2)
        self.addresses = addresses
        self.listeningPorts = Array(listeningPorts.prefix(Self.portLimit))
        self.limits = limits
        self.random = random
        report = PunchReport(method: .dcutr, isDialer: isDialer, startedAt: now)
        report.attempt = attempt
        report.localAddresses = addresses
        report.tactic = PunchPlan.Tactic.plain.name
    }

    public var session: UInt64? { nil }
    public func nextOrder() -> PunchOrder? { orders.popFirst() }

    // MARK: Signalling

    public func start(now: Instant) {
        guard case .idle = phase else { return }
        if isInitiator {
            phase = .awaitingConnect(since: now)
            signal(.connect(addresses))
        } else {
            // The same limit as for the next message.
            phase = .awaitingSync(until: now + limits.signalTimeout)
        }
    }

    private func signal(_ message: DCUtRMessage) { orders.append(.signal(message.encoded)) }

    public func signalled(_ bytes: Bytes, now: Instant) {
        var bytes = bytes
        do {
            while let message = try reader.next(from: &bytes) {
                if case .over = phase { return }
                try take(DCUtRMessage(message), now: now)
            }
        } catch {
            fail("\(error)", now: now)
        }
    }

    private func take(_ message: DCUtRMessage, now: Instant) throws(DecodingError) {
        switch (phase, message) {
        case (.awaitingConnect(let since), .connect(let addresses)):
            learned(addresses)
            guard !targets.isEmpty || !tcpTargets.isEmpty else {
                return fail("the peer gave no public address", now: now)
            }
            let roundTrip = now - since
            report.roundTrip = roundTrip
            signal(.sync)
            phase = .waiting(until: now + roundTrip / 2)
        case (.awaitingSync, .connect(let addresses)) where report.stage == .signalling:
            learned(addresses)
            guard !targets.isEmpty || !tcpTargets.isEmpty else {
                return fail("the peer gave no public address", now: now)
            }
            signal(.connect(self.addresses))
            phase = .awaitingSync(until: now + limits.signalTimeout)
        case (.awaitingSync, .sync) where report.stage == .exchanged: begin(now: now)
        case (.idle, _), (.awaitingConnect, _), (.awaitingSync, _), (.waiting, _), (.running, _):
            throw .invalid(field: "DCUtR message", reason: "comes out of turn")
        case (.over, _): break
        }
    }

    /// Only addresses on the internet: what a peer says about ours is not to make us send packets into a network of ours.
    private func learned(_ addresses: [Multiaddr]) {
        report.reached(.exchanged)
        report.remoteAddresses = addresses
        targets = unique(addresses.compactMap { TransportAddress(quic: $0) })
        let named = addresses.compactMap { TransportAddress(tcp: $0) }
        let guessed = named.flatMap { address in listeningPorts.map { TransportAddress(address.ip, port: $0) } }
        tcpTargets = unique(named + guessed)
        if isDialer, !tcpTargets.isEmpty { orders.append(.expectTCP(from: tcpTargets)) }
    }

    private func unique(_ found: [TransportAddress]) -> [TransportAddress] {
        var unique: [TransportAddress] = []
        for address in found where address.isPublic && !unique.contains(address) {
            guard unique.count < limits.maximumCandidates else { break }
            unique.append(address)
        }
        return unique
    }

    public func signallingEnded(_ reason: String, now: Instant) {
        switch phase {
        case .idle, .awaitingConnect, .awaitingSync: fail(reason, now: now)
        case .waiting, .running, .over: break
        }
    }

    // MARK: Punching

    private func begin(now: Instant) {
        report.reached(.probing)
        for target in tcpTargets {
            report.tried(target.tcpMultiaddr)
            orders.append(.connectTCP(to: target, isClient: isDialer))
        }
        for target in targets {
            report.tried(target.quicMultiaddr)
            if isDialer { orders.append(.connectQUIC(from: .main, to: target)) }
        }
        let patience = max(Self.patience, (report.roundTrip ?? .zero) * 2)
        phase = .running(
            until: now + Self.duration, nextPacket: isDialer ? .distantFuture : now,
            dialAt: isDialer ? .distantFuture : now + patience)
        handleTimeout(now: now)
    }

    /// Packets that are of no protocol: they open our NAT for the peer's dial. The bits of the first byte keep them apart from
    /// QUIC and from STUN.
    private func sendPackets() {
        for target in targets {
            var packet = random.bytes(Self.packetByteCount)
            packet[0] = packet[0] & 0x1F | 0x08
            report.packetsSent += 1
            orders.append(.send(packet, from: .main, to: target))
        }
    }

    public func socketsOpened(_ count: Int, now: Instant) {}
    public func learnedTCP(_ addresses: [TransportAddress], now: Instant) {}
    public func received(_ packet: [UInt8], from address: TransportAddress, on socket: PunchSocket, now: Instant) {}

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
        orders.append(.stopConnecting)
        orders.append(.finished(outcome))
    }

    // MARK: Time

    public var deadline: Instant? {
        switch phase {
        case .idle, .over: nil
        case .awaitingConnect(let since): since + limits.signalTimeout
        case .waiting(let until), .awaitingSync(let until): until
        case .running(let until, let nextPacket, let dialAt): min(until, nextPacket, dialAt)
        }
    }

    public func handleTimeout(now: Instant) {
        guard let deadline, now >= deadline else { return }
        switch phase {
        case .idle, .over: break
        case .awaitingConnect, .awaitingSync: fail("the peer did not answer over the relay", now: now)
        case .waiting: begin(now: now)
        case .running(let until, var nextPacket, var dialAt):
            if now >= until { return fail("no connection came about", now: now) }
            if now >= nextPacket {
                sendPackets()
                nextPacket = now + interval()
            }
            if now >= dialAt {
                for target in targets { orders.append(.connectQUIC(from: .main, to: target)) }
                dialAt = .distantFuture
            }
            phase = .running(until: until, nextPacket: nextPacket, dialAt: dialAt)
        }
    }

    private func interval() -> Duration {
        let range = Self.packetInterval
        return .nanoseconds(
            Int64.random(in: range.lowerBound.nanoseconds...range.upperBound.nanoseconds, using: &random))
    }
}
