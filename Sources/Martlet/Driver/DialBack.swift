import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC
import MartletReachability
import MartletRuntime
import MartletSwarm

/// Dials peers back for AutoNAT: from ports that nothing else uses, with an identity of its own, so that the peer's NAT is
/// not opened by what this node does otherwise and the peer's connections to this node are left alone. Where this machine has
/// several addresses, first from one that the peer does not talk to: a NAT may let in only whom the peer sent something to. On the
/// home loop.
final class DialBackDialer: @unchecked Sendable {
    private let loop: EventLoop
    private let factory: ConnectionFactory
    private let quic: QUICSettings?
    private let counters: NodeCounters
    private var running: [ConnectionID: DialBack] = [:]
    private var lastID: UInt64 = 0

    /// - Parameter factory: of the node, whose settings are taken over.
    init(loop: EventLoop, factory: ConnectionFactory, quic: QUICSettings?, counters: NodeCounters) {
        self.loop = loop
        self.counters = counters
        let identity = KeyPair.generate()
        var settings = factory.settings
        settings.identifiesPeers = false
        self.factory = factory.underAnotherKey(identity, settings: settings)
        self.quic = quic.map { QUICSettings(identity, $0.configuration, $0.connection, $0.budget) }
    }

    /// Dials and calls back once, on the home loop.
    func dial(_ request: DialBackRequest, completed: @escaping (DialBackOutcome) -> Void) {
        guard let address = request.address.ipAddress?.unmapped else { return completed(.notReached) }
        let any: IPAddress = address.isIP4 ? .v4(.any) : .v6(.any)
        guard let stranger = LocalAddresses.alternate(to: any, towards: request.remoteAddress.ipAddress?.unmapped)
        else {
            _ = start(request, from: any, wait: request.delay, timeout: AutoNAT.dialTimeout, completed)
            return
        }
        // The second begins when the first had its time or failed; whoever reaches the peer ends the other.
        var outcomes: [DialBackOutcome] = []
        var dials: [DialBack] = []
        let ended: (DialBackOutcome) -> Void = { outcome in
            outcomes.append(outcome)
            if outcome == .reached || outcomes.count == 2 {
                completed(outcomes.contains(.reached) ? .reached : outcomes.max { $0.rank < $1.rank } ?? outcome)
                outcomes = []
                let others = dials
                dials = []
                for dial in others { dial.end(.notReached) }
            } else {
                dials.last?.hurry()
            }
        }
        let headStart = AutoNAT.strangerHeadStart
        dials = [
            start(request, from: stranger, wait: request.delay, timeout: AutoNAT.dialTimeout, ended),
            start(
                request, from: any, wait: request.delay + headStart, timeout: AutoNAT.dialTimeout - headStart, ended),
        ]
    }

    private func start(
        _ request: DialBackRequest, from source: IPAddress, wait: Duration, timeout: Duration,
        _ completed: @escaping (DialBackOutcome) -> Void
    ) -> DialBack {
        lastID += 1
        let id = ConnectionID(rawValue: lastID)
        let dial = DialBack(
            id: id, request: request, source: source, timeout: timeout, loop: loop, factory: factory, quic: quic,
            counters: counters
        ) { [weak self] outcome in
            self?.running[id] = nil
            completed(outcome)
        }
        running[id] = dial
        dial.begin(after: wait)
        return dial
    }

    func stop() {
        for id in running.keys.sorted() { running[id]?.end(.notReached) }
    }
}

/// One dial for a peer.
final class DialBack: @unchecked Sendable {
    private let id: ConnectionID
    private let request: DialBackRequest
    /// The address to dial from; an unspecified one leaves that to the system.
    private let source: IPAddress
    private let timeout: Duration
    private let loop: EventLoop
    private let factory: ConnectionFactory
    private let quic: QUICSettings?
    private let counters: NodeCounters
    private var onEnd: ((DialBackOutcome) -> Void)?
    private var attempt: DialAttempt?
    private var driver: ConnectionDriver?
    private var timer: LoopTimer?
    private var isStarted = false
    private var isEstablished = false

    init(
        id: ConnectionID, request: DialBackRequest, source: IPAddress, timeout: Duration, loop: EventLoop,
        factory: ConnectionFactory, quic: QUICSettings?, counters: NodeCounters,
        onEnd: @escaping (DialBackOutcome) -> Void
    ) {
        self.id = id
        self.request = request
        self.source = source
        self.timeout = timeout
        self.loop = loop
        self.factory = factory
        self.quic = quic
        self.counters = counters
        self.onEnd = onEnd
    }

    func begin(after wait: Duration) {
        // In a later turn even without a wait, so that whoever asked has it before it ends.
        timer = LoopTimer(loop: loop) { [weak self] in self?.start() }
        timer?.schedule(at: loop.now + wait)
    }

    /// Begins now, if it has not.
    func hurry() {
        guard !isStarted, onEnd != nil else { return }
        timer?.schedule(at: loop.now)
    }

    private func start() {
        guard onEnd != nil, !isStarted else { return }
        isStarted = true
        timer = LoopTimer(loop: loop) { [weak self] in
            guard let self else { return }
            end(isEstablished ? .reachedWithoutNonce : .notReached)
        }
        timer?.schedule(at: loop.now + timeout)
        guard let target = SocketAddress(request.address) else { return end(.notReached) }
        if request.address.isDialableQUIC { startQUIC(target) } else { startTCP(target) }
    }

    private func startTCP(_ target: SocketAddress) {
        let attempt = DialAttempt(loop: loop, to: target)
        self.attempt = attempt
        attempt.start(from: source.scope == .unspecified ? nil : SocketAddress(source, port: 0)) {
            [weak self] result, _ in
            guard let self else { return }
            self.attempt = nil
            guard onEnd != nil, case .success(let socket) = result else { return end(.notReached) }
            let connection = factory.makeConnection(
                id, role: .dialer, remoteAddress: request.address, expecting: request.peer, random: .system,
                now: loop.now)
            run(
                StreamConnectionDriver(
                    connection: connection, socket: socket, listener: nil, loop: loop, counters: counters
                ) { [weak self] _, event in self?.reported(event) })
        }
    }

    private func startQUIC(_ target: SocketAddress) {
        guard let quic, let remote = target.quicAddress else { return end(.notReached) }
        do {
            let socket = try QUICSocket.dialing(
                loop: loop, at: SocketAddress(source, port: 0), settings: quic, counters: counters)
            let muxer = try socket.connect(to: remote, expecting: request.peer)
            let connection = factory.makeConnection(
                id, role: .dialer, remoteAddress: request.address, muxer: muxer, now: loop.now)
            run(
                QUICConnectionDriver(connection: connection, muxer: muxer, socket: socket, counters: counters) {
                    [weak self] _, event in self?.reported(event)
                })
            // Nothing else uses it.
            socket.closeWhenIdle()
        } catch {
            end(.notReached)
        }
    }

    private func run(_ driver: ConnectionDriver) {
        self.driver = driver
        driver.start()
    }

    private func reported(_ event: PeerConnectionEvent) {
        switch event {
        case .established:
            isEstablished = true
            sayNonce()
        case .closed: end(isEstablished ? .reachedWithoutNonce : .notReached)
        case .identified, .identifyFailed, .roundTrip, .usage: break
        }
    }

    private func sayNonce() {
        let sender = DialBackSender(nonce: request.nonce) { [weak self] isTaken in
            self?.end(isTaken ? .reached : .reachedWithoutNonce)
        }
        do {
            _ = try driver?.openStream([AutoNAT.dialBackProtocolID], handler: sender)
        } catch {
            end(.reachedWithoutNonce)
        }
    }

    func end(_ outcome: DialBackOutcome) {
        guard let onEnd else { return }
        self.onEnd = nil
        timer?.cancel()
        attempt?.cancel()
        if let driver {
            self.driver = nil
            // Not from inside a call of the connection.
            loop.execute { driver.close() }
        }
        onEnd(outcome)
    }
}

extension DialBackOutcome {
    fileprivate var rank: Int {
        switch self {
        case .notReached: 0
        case .reachedWithoutNonce: 1
        case .reached: 2
        }
    }
}
