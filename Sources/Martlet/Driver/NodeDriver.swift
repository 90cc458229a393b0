import CoreMetrics
import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm

/// Runs an engine over libuv: carries out the swarm's orders with sockets and timers.
///
/// The engine, and everything here that is not said to be otherwise, is confined to the home loop. Connections live on any
/// loop; they report to the home loop, and orders for them travel to theirs.
final class NodeDriver: @unchecked Sendable {
    let loops: EventLoopGroup
    let home: EventLoop
    let engine: NodeEngine
    let factory: ConnectionFactory
    let logger: Logger
    let counters = NodeCounters()
    private let resolver: AddressResolver
    private var timer: LoopTimer!
    private var saveTimer: LoopTimer?
    var relayTimer: LoopTimer?
    private var isSavePlanned = false
    private static let saveDelay = Duration.seconds(1)

    private(set) var listeners: [StreamListener] = []
    let quic: QUICSettings?
    /// The relay that this node is, if it is one.
    var relay: RelayService?
    /// UDP sockets that listen: of each address the first (`QUICSocketGroup`).
    var quicSockets: [QUICSocket] = []
    /// One for each loop, in turn; none without QUIC.
    let quicDialers: [QUICDialer]
    var nextQUICDialer = 0
    var dialing: [ConnectionID: any PendingDial] = [:]
    /// Nil when the node is not to punch holes.
    var punches: PunchService?
    private var drivers: [ConnectionID: ConnectionDriver] = [:]
    var requests = ConnectRequests()
    private var isDraining = false
    private(set) var isStopped = false
    /// Where a dialer on a Unix socket comes from, which has no address of its own.
    private static let unnamed: Multiaddr = {
        guard let address = try? Multiaddr([.unix("/unnamed")]) else { preconditionFailure("a constant address") }
        return address
    }()
    let events: NodeEvents
    /// Finds out where this node can be reached.
    private(set) var reachability: ReachabilityDriver!
    /// Who follows the connection to use for a peer.
    let pathWatchers = PathWatchers()
    private let persist: @Sendable ([(PeerID, [UInt8]?)]) -> Void

    init(
        loops: EventLoopGroup, engine: NodeEngine, resolver: Resolver, events: NodeEvents, logger: Logger,
        quic: QUICSettings?, autoNAT: AutoNATSettings, mapsPorts: Bool, blocking: BlockingPool,
        persist: @escaping @Sendable ([(PeerID, [UInt8]?)]) -> Void
    ) {
        self.loops = loops
        home = loops.loops[0]
        self.engine = engine
        factory = engine.factory
        self.resolver = AddressResolver(resolver: resolver)
        self.events = events
        self.logger = logger
        self.quic = quic
        quicDialers = Self.makeDialers(loops, quic, counters)
        self.persist = persist
        reachability = ReachabilityDriver(
            node: self, settings: autoNAT, mapsPorts: mapsPorts, blocking: blocking)
    }

    /// Runs `body` on the home loop and returns what it returns.
    func onHome<T: Sendable>(_ body: @escaping @Sendable (NodeDriver) throws -> T) async throws -> T {
        try await withUnsafeThrowingContinuation { continuation in
            let isAccepted = home.execute {
                continuation.resume(with: Result { try body(self) })
            }
            if !isAccepted { continuation.resume(throwing: MartletError.stopped) }
        }
    }

    // MARK: Listening

    /// Begins to accept connections; returns the address with the port really bound.
    func listen(at address: Multiaddr) throws -> Multiaddr {
        guard let socketAddress = SocketAddress(address), address.isDialableStream else {
            throw MartletError(
                .invalidArgument,
                "cannot listen at \(address): only /ip4|ip6/…/tcp/…, /ip4|ip6/…/udp/…/quic-v1 and /unix/… are supported"
            )
        }
        let index = listeners.count
        let listener = try StreamListener.listen(loop: home, address: socketAddress) { [weak self] accepted in
            guard let self, index < listeners.count else { return accepted.close() }
            accept(accepted, listeners[index].boundAddress.multiaddr)
        }
        listeners.append(listener)
        guard let bound = listener.boundAddress.multiaddr else {
            throw MartletError(.internalError, "the bound address \(listener.boundAddress) has no multiaddr")
        }
        return bound
    }

    private func accept(_ accepted: AcceptedDescriptor, _ listener: Multiaddr?) {
        guard !isStopped else { return accepted.close() }
        let address = accepted.remoteAddress.multiaddr ?? Self.unnamed
        // When both sides connect to each other to punch holes, who is the dialer is agreed on before.
        let crossing = punches?.crossingPeer(at: accepted.remoteAddress)
        do {
            let id =
                crossing == nil
                ? try engine.swarm.accepted(from: address, now: home.now)
                : try engine.swarm.punching(to: address, now: home.now)
            let loop = loops.next()
            let start: @Sendable () -> Void = { [self] in
                do {
                    let socket = try StreamSocket(loop: loop, descriptor: accepted.descriptor)
                    run(id, crossing == nil ? .listener : .dialer, address, expecting: crossing, socket, listener)
                } catch {
                    toHome { $0.reported(id, .closed(.transportFailed("\(error)"))) }
                }
            }
            if loop.inLoop { start() } else { loop.execute(start) }
        } catch {
            accepted.close()
            counters.connectionsRefused.increment()
            logger.debug("refused a connection", metadata: ["from": "\(address)", "reason": "\(error)"])
        }
    }

    // MARK: Connections

    /// Starts a connection over a socket, on the socket's loop.
    func run(
        _ id: ConnectionID, _ role: ConnectionRole, _ address: Multiaddr, expecting: PeerID?, _ socket: StreamSocket,
        _ listener: Multiaddr?
    ) {
        let loop = socket.loop
        let connection = factory.makeConnection(
            id, role: role, remoteAddress: address, expecting: expecting, random: .system, now: loop.now)
        let driver = StreamConnectionDriver(
            connection: connection, socket: socket, listener: listener, loop: loop, counters: counters
        ) { [weak self] id, event in
            self?.toHome { $0.reported(id, event) }
        }
        toHome { $0.started(driver) }
        driver.start()
    }

    /// Runs `body` on the home loop: at once when called there.
    func toHome(_ body: @escaping @Sendable (NodeDriver) -> Void) {
        if home.inLoop { body(self) } else { home.execute { body(self) } }
    }

    func started(_ driver: ConnectionDriver) {
        drivers[driver.id] = driver
        counters.connectionsOpened.increment()
        // The swarm may have changed its mind while the connection was being made.
        if isStopped || engine.swarm.isClosing(driver.id) { order(driver) { $0.close() } }
    }

    func reported(_ id: ConnectionID, _ event: PeerConnectionEvent) {
        noteObserved(id, event)
        if case .closed = event {
            drivers[id] = nil
            counters.connectionsClosed.increment()
        }
        engine.swarm.connection(id, reports: event, now: home.now)
        noteForReservations(id, event)
        if case .closed = event { relay?.connectionClosed(id) }
        punches?.connection(id, reports: event)
        drain()
    }

    private func order(_ driver: ConnectionDriver?, _ body: @escaping @Sendable (ConnectionDriver) -> Void) {
        guard let driver else { return }
        // Never from inside the swarm's own call: a connection may report at once.
        driver.loop.execute { body(driver) }
    }

    // MARK: Orders

    /// Carries out what the swarm wants. Called after everything that it is told.
    func drain() {
        guard !isDraining else { return }
        isDraining = true
        defer { isDraining = false }
        repeat {
            while let order = engine.swarm.nextOrder() { carryOut(order) }
        } while drainReservations()
        if let deadline = engine.swarm.deadline, !isStopped { timer?.schedule(at: deadline) } else { timer?.cancel() }
        if engine.swarm.hasPeerChanges, !isSavePlanned {
            isSavePlanned = true
            saveTimer?.schedule(at: home.now + Self.saveDelay)
        }
    }

    /// Writes what changed about peers, all of the last second in one transaction.
    private func savePeers() {
        isSavePlanned = false
        let changes = engine.swarm.takePeerChanges()
        if !changes.isEmpty { persist(changes) }
    }

    private func carryOut(_ order: SwarmOrder) {
        switch order {
        case .dial(let id, let address, let expecting): dial(id, address, expecting)
        case .dialThroughRelay(let id, let relay, let addresses, let peer):
            dialThroughRelay(id, relay, at: addresses, to: peer)
        case .resolve(let id, let address): resolve(id, address)
        case .close(let id, let reason): close(id, reason)
        case .retire(let id): self.order(drivers[id]) { $0.retire() }
        case .reinstate(let id): self.order(drivers[id]) { $0.reinstate() }
        case .pushIdentify(let id): self.order(drivers[id]) { $0.pushIdentify() }
        case .completed(let request, let result): complete(request, result)
        case .event(let event): tell(event)
        }
    }

    private func dial(_ id: ConnectionID, _ address: Multiaddr, _ expecting: PeerID?) {
        guard let target = SocketAddress(address) else { return failed(id, "not an address that sockets know") }
        logger.debug("dialing", metadata: ["address": "\(address)"])
        if address.isDialableQUIC { return dialWithQUIC(id, address, target, expecting) }
        let attempt = DialAttempt(loop: loops.next(), to: target)
        dialing[id] = attempt
        let local = dialingAddress(for: target)
        reachability.noteContact(with: target, from: local?.multiaddr)
        attempt.start(from: local) { [weak self] result, local in
            guard let self else { return }
            switch result {
            case .success(let socket):
                toHome { $0.dialing[id] = nil }
                run(id, .dialer, address, expecting: expecting, socket, local?.multiaddr)
            case .failure(let error):
                toHome { driver in
                    guard driver.dialing.removeValue(forKey: id) != nil else { return }
                    driver.failed(id, "\(error)", isRefusal: error.isRefusal)
                }
            }
        }
    }

    func failed(_ id: ConnectionID, _ reason: String, isRefusal: Bool = false, mayPass: Bool = false) {
        counters.dialsFailed.increment()
        engine.swarm.dialFailed(id, reason: reason, isRefusal: isRefusal, mayPass: mayPass, now: home.now)
        drain()
    }

    func close(_ id: ConnectionID, _ reason: String) {
        logger.debug("closing a connection", metadata: ["connection": "\(id)", "reason": "\(reason)"])
        if let attempt = dialing.removeValue(forKey: id) {
            attempt.cancel()
            return failed(id, reason)
        }
        order(drivers[id]) { $0.close() }
    }

    private func resolve(_ id: RequestID, _ address: Multiaddr) {
        let resolver = resolver
        Task { [weak self, home] in
            let result: Result<[Multiaddr], DialReason>
            do {
                result = .success(try await resolver.resolve(address))
            } catch {
                result = .failure(DialReason("\(error)"))
            }
            home.execute { [weak self] in
                guard let self else { return }
                engine.swarm.resolved(id, address, result, now: home.now)
                drain()
            }
        }
    }

    private func tell(_ event: SwarmEvent) {
        switch event {
        case .connected(let peer, let address, let role):
            logger.info("peer connected", metadata: ["peer": "\(peer)", "address": "\(address)"])
            events.send(.connected(peer, address: address, isOutbound: role == .dialer))
        case .identified(let peer, let info):
            events.send(.identified(peer, agent: info.agentVersion, protocols: info.protocols ?? []))
        case .pathChanged(let peer, let connection, let path):
            if let connection = drivers[connection] { pathWatchers.tell(peer, connection) }
            punches?.pathChanged(peer, to: connection)
            logger.info("path changed", metadata: ["peer": "\(peer)", "path": "\(path.rawValue)"])
            events.send(.pathChanged(peer, path))
        case .disconnected(let peer, let reason):
            logger.info("peer disconnected", metadata: ["peer": "\(peer)", "reason": "\(reason)"])
            events.send(.disconnected(peer, reason: "\(reason)"))
        }
    }

    // MARK: Starting

    /// Sets the timer up and dials the peers that the node keeps.
    func start(keeping peers: [Multiaddr]) {
        timer = LoopTimer(loop: home) { [unowned self] in
            engine.swarm.handleTimeout(now: home.now)
            drain()
        }
        saveTimer = LoopTimer(loop: home) { [unowned self] in savePeers() }
        reachability.start()
        for peer in peers { engine.swarm.keepConnected(to: peer, now: home.now) }
        startReservations()
        drain()
    }

    // MARK: Looking

    /// The driver of the connection to use for a peer, or nil when there is none.
    func driver(for peer: PeerID) -> ConnectionDriver? {
        engine.swarm.connection(to: peer).flatMap { drivers[$0] }
    }

    func driver(of id: ConnectionID) -> ConnectionDriver? { drivers[id] }

    /// The established connections that are wanted.
    func statuses(_ isWanted: (ConnectionID) -> Bool) -> [PeerStatus] {
        let now = home.now
        return engine.swarm.connectionInfos.filter { isWanted($0.id) }.map { info in
            let driver = drivers[info.id]
            let rates = driver?.meter.rates(now: now)
            return PeerStatus(
                peer: info.peer, address: info.remoteAddress, isOutbound: info.role == .dialer,
                roundTrip: info.roundTrip, roundTripAge: info.roundTripAt.map { now - $0 },
                connectedFor: now - info.establishedAt, agent: info.agentVersion, protocols: info.protocols,
                path: info.path, transport: driver?.transport, limit: info.limit,
                receivedPerSecond: rates?.received ?? 0, sentPerSecond: rates?.sent ?? 0)
        }
    }

    // MARK: Stopping

    /// Stops listening and dialing and closes every connection.
    ///
    /// - Returns: what is still to be written about peers.
    func stop() -> [(PeerID, [UInt8]?)] {
        guard !isStopped else { return [] }
        isStopped = true
        punches?.stop()
        timer?.cancel()
        saveTimer?.cancel()
        relayTimer?.cancel()
        // Before dials are closed: what the node wanted them for is not to go on.
        requests.forgetOwn()
        reachability.stop()
        relay?.stop()
        for listener in listeners { listener.close() }
        listeners = []
        for socket in quicSockets { socket.loop.execute { socket.closeWhenIdle() } }
        quicSockets = []
        for dialer in quicDialers { dialer.loop.execute { dialer.close() } }
        for id in dialing.keys.sorted() { close(id, "the node stops") }
        for id in drivers.keys.sorted() { order(drivers[id]) { $0.close() } }
        requests.stop()
        return engine.swarm.takePeerChanges()
    }

    var openConnectionCount: Int { drivers.count }
}

extension MartletError {
    static var stopped: MartletError { MartletError(.nodeStopped, "the node was stopped") }
}
