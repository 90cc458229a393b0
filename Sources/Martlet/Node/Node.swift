import CoreMetrics
import Logging
import MartletConnection
import MartletContent
public import MartletCore
public import MartletIdentity
public import MartletReachability
import MartletRuntime
import MartletStorage
import MartletSwarm
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A member of the mesh.
///
///     let node = try await Node.start { $0.listenAddresses = [try Multiaddr("/ip4/0.0.0.0/tcp/4001")] }
///     node.handle("/echo/1.0.0") { stream in
///         while let bytes = try await stream.read() { try await stream.write(bytes) }
///         try await stream.finish()
///     }
///     let peer = try await node.connect(to: Multiaddr("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…"))
///     let stream = try await node.openStream(to: peer, protocol: "/echo/1.0.0")
///
/// All methods may be called from any task. A node works until `stop()`.
public final class Node: Sendable {
    public let peerID: PeerID
    /// The addresses that this node accepts connections at, with the ports really bound, each ending in `/p2p/<peerID>`.
    public let listenAddresses: [Multiaddr]
    let driver: NodeDriver
    let storage: NodeStorage
    let events: NodeEvents
    private let loops: EventLoopGroup
    let blocking: BlockingPool
    let content: NodeContent
    /// Calls: the services that this node offers, and those of its peers.
    public let rpc: NodeRPC
    let shardExchange: ShardExchange
    let isServingContent = Mutex(false)
    let latticaState = LatticaState()
    private let isStopped = Mutex(false)

    /// Starts a node; see `NodeConfiguration` for what can be set.
    ///
    /// - Throws: `MartletError` when the key, the data directory or a listen address cannot be used; its message names which.
    nonisolated(nonsending)
        public static func start(_ configure: (inout NodeConfiguration) throws -> Void) async throws -> Node
    {
        var configuration = NodeConfiguration()
        try configure(&configuration)
        return try await start(configuration)
    }

    /// Starts a node.
    public static func start(_ configuration: NodeConfiguration) async throws -> Node {
        let blocking = BlockingPool(threadCount: 4, queueLimit: 4096)
        let storage = try await blocking.run { try NodeStorage.open(configuration) }
        var loopConfiguration = EventLoop.Configuration()
        loopConfiguration.spin = configuration.spin
        let loops = try EventLoopGroup(
            loopCount: configuration.loopCount ?? defaultLoopCount, configuration: loopConfiguration)
        do {
            return try await Node(configuration, storage, loops, blocking)
        } catch {
            await loops.shutdown()
            storage.close()
            throw error
        }
    }

    private static var defaultLoopCount: Int {
        min(8, max(1, sysconf(CInt(_SC_NPROCESSORS_ONLN))))
    }

    private init(
        _ configuration: NodeConfiguration, _ storage: NodeStorage, _ loops: EventLoopGroup, _ blocking: BlockingPool
    ) async throws {
        var settings = NodeEngine.Configuration()
        if let network = configuration.network {
            settings.network = network
            settings.isNetworkExclusive = configuration.isNetworkExclusive
        }
        settings.limits = configuration.relay?.widened(configuration.limits) ?? configuration.limits
        settings.dialing = configuration.dialing
        settings.connection = configuration.connection
        settings.streams.streamTimeout = configuration.streamTimeout
        settings.streams.retirementDelay = configuration.retirementDelay
        settings.servesPerf = configuration.servesPerf
        settings.relays = configuration.relays
        settings.reservations = configuration.reservations
        var random = RandomSource.system
        let engine = NodeEngine(
            identity: storage.identity, configuration: settings, random: &random, now: .systemNow(),
            wallTime: .systemNow())
        for (peer, stored) in storage.loadPeers() { engine.swarm.loadPeer(stored, of: peer) }
        let events = NodeEvents(first: configuration.events)
        let driver = NodeDriver(
            loops: loops, engine: engine, resolver: Resolver(loop: loops.loops[0]), events: events,
            logger: configuration.logger,
            quic: configuration.usesQUIC
                ? QUICSettings(
                    storage.identity, configuration.quic, configuration.connection, engine.factory.budget,
                    buffers: DatagramBufferWatch(logger: configuration.logger))
                : nil,
            autoNAT: configuration.autoNAT, mapsPorts: configuration.mapsPorts, blocking: blocking
        ) { changes in
            Task { try? await blocking.run { try storage.save(changes) } }
        }
        self.driver = driver
        self.storage = storage
        self.events = events
        self.loops = loops
        self.blocking = blocking
        let logger = configuration.logger
        content = NodeContent(environment: storage.environment, blocking: blocking) { file in
            logger.warning("a shared file has changed and is not served any more", metadata: ["path": "\(file.path)"])
        }
        rpc = NodeRPC(driver: driver, limits: configuration.rpc)
        shardExchange = ShardExchange(rpc: rpc)
        rpc.serve(in: engine.local.protocols)
        if let relay = configuration.relay {
            let service = RelayService(driver: driver, identity: storage.identity, configuration: relay)
            service.serve(in: engine.local.protocols, configuration: relay)
            try await driver.onHome { $0.relay = service }
        }
        let peerID = storage.identity.peerID
        self.peerID = peerID
        let given = try AnnounceAddresses.checked(configuration.announceAddresses, of: peerID)
        let bound = try await Self.listen(configuration.listenAddresses, driver)
        // A Unix path takes the rest of an address, so nothing can follow it.
        listenAddresses = bound.map { (try? $0.encapsulating(peer: peerID)) ?? $0 }
        try await driver.onHome { driver in
            driver.engine.observed.localAddresses = LocalNetwork.current.addresses
            driver.engine.announce {
                $0.given = given
                $0.listening = bound
            }
            if configuration.punchesHoles { driver.startPunching(configuration.punching) }
            driver.start(keeping: configuration.peers)
        }
        // What earlier runs shared is served again.
        if storage.environment != nil { try await serveContent() }
    }

    private static func listen(_ addresses: [Multiaddr], _ driver: NodeDriver) async throws -> [Multiaddr] {
        var bound: [Multiaddr] = []
        for address in addresses {
            do {
                let address = address.withoutPeerID
                let actual =
                    address.isDialableQUIC
                    ? try await driver.listenWithQUIC(at: address)
                    : try await driver.onHome { try $0.listen(at: address) }
                bound += ListenAddresses.expanded(actual)
            } catch let error as MartletError {
                throw error
            } catch {
                throw MartletError(.systemError, "\(error)", cause: error)
            }
        }
        return bound
    }

    // MARK: Peers

    /// Connects to whoever is at `address`; when it ends in `/p2p/…`, only to that peer. An existing connection is used.
    ///
    /// - Returns: who answered.
    /// - Throws: `MartletError` with every address tried and why it failed.
    @discardableResult
    public func connect(to address: Multiaddr) async throws -> PeerID {
        try await driver.connect(to: address.peerID, at: [address]).peer
    }

    /// Connects to `peer` at any of `addresses`, or at those known from earlier.
    @discardableResult
    public func connect(to peer: PeerID, at addresses: [Multiaddr] = []) async throws -> PeerID {
        try await driver.connect(to: peer, at: addresses).peer
    }

    /// Connects to `peer` without a relay, even when there is a relayed connection, at `addresses` or those known from earlier.
    public func connectDirectly(to peer: PeerID, at addresses: [Multiaddr] = []) async throws {
        _ = try await driver.connect(to: peer, at: addresses, directly: true)
    }

    /// Closes every connection to `peer`.
    public func disconnect(from peer: PeerID) async throws {
        try await driver.onHome { driver in
            driver.engine.swarm.disconnect(peer, reason: "asked to by the application")
            driver.drain()
        }
    }

    /// The connections there are now.
    public func peers() async throws -> [PeerStatus] {
        try await driver.onHome { driver in driver.statuses { _ in true } }
    }

    /// The connection used for `peer` now; nil when there is none.
    public func status(of peer: PeerID) async throws -> PeerStatus? {
        try await driver.onHome { driver in
            driver.engine.swarm.connection(to: peer).flatMap { id in driver.statuses { $0 == id }.first }
        }
    }

    /// How the node stands with the relays that it was given.
    public func relays() async throws -> [ReservationStatus] {
        try await driver.onHome { $0.engine.reservations.statuses }
    }

    /// The addresses that peers are told of now: those it listens at as far as they are of use, and those at relays. Each ends
    /// in `/p2p/<peerID>`.
    public func announcedAddresses() async throws -> [Multiaddr] {
        try await driver.onHome { $0.engine.announced.addresses }.map { (try? $0.encapsulating(peer: peerID)) ?? $0 }
    }

    /// What is known of this node's addresses: whether strangers reach them, by AutoNAT.
    public func reachability() async throws -> [AddressReachability] {
        try await driver.onHome { $0.reachability.addresses }
    }

    /// What happens from now on, such as connections made and lost; the last 1,024 events wait for a slow reader. Ends when the
    /// node stops. `NodeConfiguration.events` gets what happens before, too.
    public func subscribeToEvents() -> AsyncStream<NodeEvent> { events.subscribe() }

    /// Measures the round trip to `peer` `count` times, one after the other.
    ///
    /// - Throws: `MartletError` when the peer is not reached or the stream ends.
    @discardableResult
    public func ping(_ peer: PeerID, count: Int = 1, each: (@Sendable (Duration) -> Void)? = nil) async throws
        -> [Duration]
    {
        let connection = try await connectionDriver(for: peer)
        let run = PingRun(count: count, each: each)
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let isAccepted = connection.loop.execute { run.start(on: connection, continuation) }
                if !isAccepted { continuation.resume(throwing: MartletError.stopped) }
            }
        } onCancel: {
            connection.loop.execute { run.cancel() }
        }
    }

    /// What became of the latest attempts to get a direct connection to `peer`, the oldest first.
    public func punchReports(of peer: PeerID) async throws -> [PunchReport] {
        try await driver.onHome { $0.punches?.reports[peer] ?? [] }
    }

    // MARK: Streams

    /// Opens a stream to `peer`, connecting first when need be (to an address known from earlier).
    ///
    /// - Throws: `MartletError`: `.protocolNotSupported` when the peer does not serve `protocolID`.
    public func openStream(to peer: PeerID, protocol protocolID: String) async throws -> MeshStream {
        try await openStream(on: try await connectionDriver(for: peer), to: peer, protocol: protocolID)
    }

    /// Opens a stream on a connection to `peer`.
    func openStream(on connection: ConnectionDriver, to peer: PeerID, protocol protocolID: String) async throws
        -> MeshStream
    {
        let bridge = StreamBridge(loop: connection.loop)
        driver.counters.streamsOpened.increment()
        do {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
                let isAccepted = connection.loop.execute {
                    do {
                        bridge.attach(try connection.openStream([protocolID], handler: bridge))
                        bridge.waitUntilOpen(continuation)
                    } catch {
                        continuation.resume(throwing: error)
                    }
                }
                if !isAccepted { continuation.resume(throwing: MartletError.stopped) }
            }
        } catch let reason as StreamCloseReason {
            throw MartletError(reason)
        } catch let error as StreamOpenError {
            throw MartletError(.limitReached, "\(error)", cause: error)
        }
        return MeshStream(peer: peer, protocolID: protocolID, bridge: bridge)
    }

    /// Serves `protocolID` from now on: `body` runs for every stream that a peer opens, each in a task of its own that may
    /// block or take as long as it likes. When it returns or throws, the stream is finished or reset.
    ///
    /// - Parameter streamLimit: inbound streams of this protocol on one connection at a time; more are refused.
    public func handle(
        _ protocolID: String, streamLimit: Int = 256, _ body: @escaping @Sendable (MeshStream) async throws -> Void
    ) {
        driver.engine.local.protocols.register(
            protocolID,
            .init(streamLimit: streamLimit) { connection in
                guard let driver = connection.owner as? ConnectionDriver, let peer = connection.remote?.peerID else {
                    preconditionFailure("a stream came in on a connection without driver or peer")
                }
                return StreamBridge(loop: driver.loop) { bridge in
                    let stream = MeshStream(peer: peer, protocolID: protocolID, bridge: bridge)
                    Task(executorPreference: driver.loop) {
                        do {
                            try await body(stream)
                            try await stream.finish()
                        } catch {
                            stream.reset()
                        }
                    }
                }
            })
        announceProtocols()
    }

    /// Serves `protocolID` no longer; streams that are open go on.
    public func stopHandling(_ protocolID: String) {
        driver.engine.local.protocols.unregister(protocolID)
        announceProtocols()
    }

    private func announceProtocols() {
        driver.home.execute { [driver] in
            driver.engine.swarm.pushIdentify()
            driver.drain()
        }
    }

    /// An executor on which a task runs beside the network: without a change of thread between receiving and handling.
    /// For code that answers messages quickly, as `Task(executorPreference: node.executor)`.
    public var executor: any TaskExecutor { driver.home }

    func connectionDriver(for peer: PeerID) async throws -> ConnectionDriver {
        try await driver.connectionDriver(for: peer)
    }

    // MARK: Stopping

    /// Closes every connection in order, stops listening and gives all resources back. Further calls fail.
    public func stop() async {
        let isFirst = isStopped.withLock { stopped in
            defer { stopped = true }
            return !stopped
        }
        guard isFirst else { return }
        rpc.stop()
        let changes = (try? await driver.onHome { $0.stop() }) ?? []
        // Goodbyes take a round trip at most; a peer that does not answer is not waited for.
        for _ in 0..<40 {
            let open = (try? await driver.onHome { $0.openConnectionCount }) ?? 0
            if open == 0 { break }
            try? await Task.sleep(for: .milliseconds(25))
        }
        // Ports are no longer forwarded to a node that is gone; a gateway that does not answer is not waited for.
        for _ in 0..<120 {
            let isBusy = (try? await driver.onHome { $0.reachability.isAskingGateway }) ?? false
            if !isBusy { break }
            try? await Task.sleep(for: .milliseconds(25))
        }
        events.finish()
        await loops.shutdown()
        // Writes that are under way end before the database closes.
        try? await blocking.run { [storage] in try storage.save(changes) }
        try? await blocking.run { [content] in content.close() }
        await blocking.shutdown()
        storage.close()
    }
}
