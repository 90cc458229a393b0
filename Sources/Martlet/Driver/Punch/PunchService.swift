import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// Gets direct connections to the peers that are reached through a relay. Confined to the home loop.
final class PunchService {
    /// Reports kept for each peer, and peers that they are kept for.
    static let reportsPerPeer = 8
    static let reportedPeers = 256
    /// How long a punch waits for the answers of STUN servers before it does without.
    static let learningTime = Duration.milliseconds(400)
    /// Attempts of DCUtR that belong together.
    private static let attemptsWithin = Duration.seconds(30)
    /// Servers that are asked, and how often: often enough that the mappings of UDP live on.
    static let serverLimit = 4
    static let refreshInterval = Duration.seconds(25)

    unowned let driver: NodeDriver
    let limits: PunchLimits
    var random = RandomSource.system
    var active: [PeerID: ActivePunch] = [:]
    var reports: [PeerID: [PunchReport]] = [:]
    var reportOrder: [PeerID] = []
    var schedule: PunchSchedule
    var rate: PunchRateLimiter
    /// One for each UDP socket that listens.
    var observers: [ObjectIdentifier: MappingObserver] = [:]
    var servers: [TransportAddress] = []
    /// Connected peers that listen by TCP on the internet.
    var tcpServers: [(connection: ConnectionID, address: TransportAddress)] = []
    /// Ports at which peers behind relays say that they listen by TCP.
    private var listeningPorts: [ConnectionID: [UInt16]] = [:]
    private(set) var timer: LoopTimer?
    private(set) var refreshTimer: LoopTimer?
    private(set) var observerTimer: LoopTimer!

    init(driver: NodeDriver, limits: PunchLimits) {
        self.driver = driver
        self.limits = limits
        schedule = PunchSchedule(limits: limits)
        rate = PunchRateLimiter(limits: limits)
    }

    var home: EventLoop { driver.home }

    func start() {
        timer = LoopTimer(loop: home) { [unowned self] in timedOut() }
        refreshTimer = LoopTimer(loop: home) { [unowned self] in refresh() }
        observerTimer = LoopTimer(loop: home) { [unowned self] in
            flushObservers()
            learned()
        }
        serve(Punch.protocolID, .martlet, as: .listener)
        serve(DCUtR.protocolID, .dcutr, as: .dialer)
    }

    func stop() {
        timer?.cancel()
        refreshTimer?.cancel()
        observerTimer.cancel()
        for peer in active.keys.sorted() { end(peer, reporting: false) }
    }

    // MARK: What happens to connections

    func connection(_ id: ConnectionID, reports event: PeerConnectionEvent) {
        switch event {
        case .established: established(id)
        case .identified(let info, let isPush): identified(id, info, isPush)
        case .closed(let reason):
            if case .unresponsive = reason { doubtMappings() }
            schedule.closed(id)
            tcpServers.removeAll { $0.connection == id }
            listeningPorts[id] = nil
        case .identifyFailed, .roundTrip, .usage: break
        }
    }

    private func established(_ id: ConnectionID) {
        guard let connection = driver.driver(of: id)?.connection, let peer = connection.remote?.peerID else { return }
        guard connection.remoteAddress.isCircuit else {
            schedule.remove(peer)
            guard let punch = active[peer] else { return }
            punch.connections.removeAll { $0 == id }
            punch.machine?.connected(at: connection.remoteAddress, now: home.now)
            return drain(punch)
        }
        // The side that dialed through the relay begins; if the peer does not speak our protocol, nothing is lost.
        if connection.role == .dialer { beginMartlet(peer, over: id) }
    }

    private func identified(_ id: ConnectionID, _ info: IdentifyInfo, _ isPush: Bool) {
        guard let connection = driver.driver(of: id)?.connection, let peer = connection.remote?.peerID else { return }
        let speaksOurs = info.protocols?.contains(Punch.protocolID) == true
        guard connection.remoteAddress.isCircuit else {
            noteTCPServer(id, at: connection.remoteAddress, info.listenAddresses ?? [])
            if speaksOurs { noteServer(at: connection.remoteAddress, info.listenAddresses ?? []) }
            return
        }
        if isPush {
            schedule.hasten(peer, now: home.now)
            plan()
        }
        if !speaksOurs { noteListeningPorts(id, info.listenAddresses ?? []) }
        guard !isPush, connection.role == .listener, !speaksOurs else { return }
        // The side that was dialed begins DCUtR.
        if info.protocols?.contains(DCUtR.protocolID) == true { beginDCUtR(peer, over: id, attempt: 1) }
    }

    private func noteListeningPorts(_ id: ConnectionID, _ addresses: [Multiaddr]) {
        var ports: [UInt16] = []
        for port in addresses.compactMap({ TransportAddress(tcp: $0)?.port }) where !ports.contains(port) {
            ports.append(port)
        }
        listeningPorts[id] = Array(ports.prefix(DCUtRRun.portLimit))
    }

    /// Another connection to a peer is the one to use: when a direct one was lost, there may soon be another.
    func pathChanged(_ peer: PeerID, to id: ConnectionID) { begin(peer, over: id) }

    // MARK: Beginning

    /// Begins a punch over a relayed connection, where that is this side's to do.
    func begin(_ peer: PeerID, over id: ConnectionID) {
        guard let connection = driver.driver(of: id)?.connection, connection.remoteAddress.isCircuit else { return }
        if connection.role == .dialer { return beginMartlet(peer, over: id) }
        let protocols = protocols(over: id)
        if protocols.contains(DCUtR.protocolID), !protocols.contains(Punch.protocolID) {
            beginDCUtR(peer, over: id, attempt: 1)
        }
    }

    /// What the peer at the other end speaks; nothing before it is identified.
    func protocols(over id: ConnectionID) -> [String] {
        driver.engine.swarm.connectionInfos.first { $0.id == id }?.protocols ?? []
    }

    /// Whether a punch with a peer has a point.
    ///
    /// - Parameter relayed: a relayed connection that the peer made and wants to punch over. If it is newer than a direct one,
    ///   the peer has lost that, and this side does not know yet.
    private func isWanted(_ peer: PeerID, over relayed: ConnectionID? = nil) -> Bool {
        guard active[peer] == nil, active.count < limits.maximumPunches, !driver.isStopped,
            let best = driver.driver(for: peer)
        else { return false }
        return best.connection.remoteAddress.isCircuit || relayed.map { best.id < $0 } ?? false
    }

    private func beginMartlet(_ peer: PeerID, over id: ConnectionID) {
        guard isWanted(peer), let connection = driver.driver(of: id) else { return }
        schedule.began(peer, over: id)
        let stream = PunchStream(.martlet, loop: connection.loop, home: home)
        begin(peer, id, isDialer: true, stream) { [unowned self] in
            PunchRun(
                isDialer: true, local: description(), servers: answeringServers, limits: limits, random: random.split(),
                now: home.now)
        }
        open(Punch.protocolID, stream, connection)
    }

    func beginDCUtR(_ peer: PeerID, over id: ConnectionID, attempt: Int) {
        guard isWanted(peer), let connection = driver.driver(of: id) else { return }
        schedule.began(peer, over: id)
        let stream = PunchStream(.dcutr, loop: connection.loop, home: home)
        begin(peer, id, isDialer: false, stream) { [unowned self] in
            DCUtRRun(
                isInitiator: true, attempt: attempt, addresses: publicAddresses(),
                listeningPorts: listeningPorts[id] ?? [], limits: limits, random: random.split(), now: home.now)
        }
        open(DCUtR.protocolID, stream, connection)
    }

    private func open(_ protocolID: String, _ stream: PunchStream, _ connection: ConnectionDriver) {
        connection.loop.execute {
            do {
                _ = try connection.openStream([protocolID], isHopeful: true, handler: stream)
            } catch {
                stream.failed("\(error)")
            }
        }
    }

    /// Serves a protocol on relayed connections in which this side has the role given; on others it makes no sense.
    private func serve(_ protocolID: String, _ method: PunchReport.Method, as role: ConnectionRole) {
        let home = home
        driver.engine.local.protocols.register(
            protocolID,
            .init(streamLimit: 2) { [weak driver] connection in
                guard let driver, let owner = connection.owner as? ConnectionDriver,
                    let peer = connection.remote?.peerID, connection.remoteAddress.isCircuit, connection.role == role
                else { return RefusedStream() }
                let id = connection.id
                return PunchStream(method, loop: owner.loop, home: home) { stream in
                    // In a later turn of the connection's loop: it reports that it is established at the end of this one.
                    owner.loop.execute { home.execute { driver.punches?.accepted(stream, peer, id) } }
                }
            })
    }

    /// A peer wants to punch.
    private func accepted(_ stream: PunchStream, _ peer: PeerID, _ id: ConnectionID) {
        if let other = active[peer] {
            // A relayed connection from before that one says nothing new.
            if id < other.relayed, driver.driver(of: other.relayed) != nil { return stream.reset() }
            // Both dialed the other through a relay: the punch of the smaller peer id goes on.
            if other.stream.method == .martlet, other.isDialer, stream.method == .martlet,
                driver.engine.local.peerID < peer
            {
                return stream.reset()
            }
            end(peer, reporting: true)
        }
        guard isWanted(peer, over: id), schedule.admits(peer, now: home.now) else { return stream.reset() }
        let isDialer = stream.method == .dcutr
        begin(peer, id, isDialer: isDialer, stream) { [unowned self] in
            switch stream.method {
            case .dcutr:
                DCUtRRun(
                    isInitiator: false, attempt: inboundAttempt(peer), addresses: publicAddresses(),
                    listeningPorts: listeningPorts[id] ?? [], limits: limits, random: random.split(), now: home.now)
            case .martlet:
                PunchRun(
                    isDialer: false, local: description(), servers: answeringServers, limits: limits,
                    random: random.split(), now: home.now)
            }
        }
    }

    /// Which attempt of DCUtR a peer makes: it does not say, but makes them one after the other.
    private func inboundAttempt(_ peer: PeerID) -> Int {
        let failed = (reports[peer] ?? []).reversed().prefix { report in
            guard report.method == .dcutr, case .failed? = report.outcome else { return false }
            return report.stage >= .probing && home.now - report.startedAt < Self.attemptsWithin
        }
        return failed.count % limits.maximumAttempts + 1
    }

    private func begin(
        _ peer: PeerID, _ id: ConnectionID, isDialer: Bool, _ stream: PunchStream,
        _ make: @escaping () -> any PunchMachine
    ) {
        let sockets = PunchSockets(loop: home) { [unowned self] index, bytes, address in
            guard let ip = address.ipAddress, let punch = active[peer] else { return }
            punch.machine?.received(
                bytes, from: TransportAddress(ip, port: address.port), on: .extra(index), now: home.now)
            drain(punch)
        }
        let timer = LoopTimer(loop: home) { [unowned self] in
            guard let punch = active[peer] else { return }
            if punch.machine == nil { startMachine(punch, make) } else { punch.machine?.handleTimeout(now: home.now) }
            drain(punch)
        }
        let punch = ActivePunch(
            peer: peer, relayed: id, isDialer: isDialer, stream: stream, timer: timer, sockets: sockets,
            startsBy: home.now + Self.learningTime)
        active[peer] = punch
        driver.logger.debug("punching holes", metadata: ["peer": "\(peer)", "method": "\(stream.method.rawValue)"])
        stream.listen { [unowned self, unowned punch] event in heard(event, punch) }
        if observers.values.contains(where: \.isDoubted) { refreshServers() }
        if isLearning {
            refreshServers()
            timer.schedule(at: punch.startsBy)
            whenLearned.append { [unowned self, weak punch] in
                guard let punch, !punch.isOver, punch.machine == nil else { return }
                startMachine(punch, make)
                drain(punch)
            }
        } else {
            startMachine(punch, make)
            drain(punch)
        }
    }

    /// Punches that wait until this node knows how it is seen.
    private var whenLearned: [() -> Void] = []

    func learned() {
        guard !isLearning else { return }
        let bodies = whenLearned
        whenLearned = []
        for body in bodies { body() }
    }

    private func startMachine(_ punch: ActivePunch, _ make: () -> any PunchMachine) {
        let machine = make()
        punch.machine = machine
        machine.start(now: home.now)
        let early = punch.early
        punch.early = []
        for event in early { take(event, machine) }
    }

    private func heard(_ event: PunchStream.Event, _ punch: ActivePunch) {
        guard !punch.isOver else { return }
        guard let machine = punch.machine else { return punch.early.append(event) }
        take(event, machine)
        drain(punch)
    }

    private func take(_ event: PunchStream.Event, _ machine: any PunchMachine) {
        switch event {
        case .received(let bytes): machine.signalled(bytes, now: home.now)
        case .closed(let reason): machine.signallingEnded("\(reason)", now: home.now)
        }
    }

    // MARK: Packets

    /// A datagram that is not QUIC's came to a socket of the node.
    func received(_ bytes: [UInt8], from address: SocketAddress, on socket: QUICSocket) {
        guard let ip = address.ipAddress else { return }
        let from = TransportAddress(ip, port: address.port)
        let key = ObjectIdentifier(socket)
        if STUNMessage.looksLike(bytes) {
            guard observers[key]?.received(bytes, random: &random, now: home.now) == true else { return }
            noteAnswer(socket, from: ip)
            flushObservers()
            return learned()
        }
        for peer in active.keys.sorted() {
            guard let punch = active[peer], let session = punch.machine?.session,
                Punch.session(of: bytes) == session
            else { continue }
            let place = punch.sockets.index(of: socket).map { PunchSocket.extra($0) } ?? .main
            punch.machine?.received(bytes, from: from, on: place, now: home.now)
            return drain(punch)
        }
    }
}

/// Ends a stream that makes no sense on its connection.
private final class RefusedStream: StreamHandler {
    func streamOpened(_ stream: PeerStream) { stream.fail("not on this connection") }
    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {}
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}
