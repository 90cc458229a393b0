import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// Finds out where this node can be reached: takes part in AutoNAT on both sides, watches the machine's addresses, and has
/// what comes of it announced. On the home loop.
final class ReachabilityDriver: @unchecked Sendable {
    /// After a change others mostly follow at once.
    private static let settleTime = Duration.milliseconds(500)
    /// Places that peers see one socket at and that are asked about.
    private static let observedPerListener = 2

    private unowned let node: NodeDriver
    private let settings: AutoNATSettings
    private var client: AutoNATClient
    private let dialer: DialBackDialer
    private let mapsPorts: Bool
    private(set) var mapper: PortMapper!
    private(set) var pinholes: Pinholes!
    private(set) var discoverer: NATDiscoverer!
    private var contacted = ContactedHosts()
    private var externalAddress = ExternalAddressMonitor()
    private var updateTimer: LoopTimer!
    private var advanceTimer: LoopTimer!
    private var watcher: NetworkWatcher!
    private var probes: [UInt64: AutoNATProbeHandler] = [:]
    /// Who waits for the answers to questions that are not the client's.
    private var otherQuestions: [UInt64: (Result<AutoNATResponse, StreamCloseReason>) -> Void] = [:]
    private var random = RandomSource.system
    private var told: [AddressReachability] = []
    /// The addresses of the gateway that were told of.
    private var forwardedAddresses: Set<Multiaddr> = []

    init(node: NodeDriver, settings: AutoNATSettings, mapsPorts: Bool, blocking: BlockingPool) {
        self.node = node
        self.mapsPorts = mapsPorts
        self.settings = settings
        var configuration = settings.client
        configuration.asksAboutPrivateAddresses = settings.allowsPrivateAddresses
        client = AutoNATClient(configuration: configuration, random: .system)
        dialer = DialBackDialer(
            loop: node.home, factory: node.factory, quic: node.quic, counters: node.counters)
        updateTimer = LoopTimer(loop: node.home) { [unowned self] in update() }
        advanceTimer = LoopTimer(loop: node.home) { [unowned self] in
            client.advance(now: node.home.now)
            drain()
        }
        watcher = NetworkWatcher(
            node: node, onLook: { [unowned self] in mapPorts() }, onChange: { [unowned self] in networkChanged() },
            onWake: { [unowned self] in woke() })
        mapper = PortMapper(loop: node.home, blocking: blocking, logger: node.logger) { [unowned self] in
            mappingsChanged()
        }
        pinholes = Pinholes(loop: node.home, blocking: blocking, logger: node.logger) { [unowned self] in
            mappingsChanged()
        }
        mapper.onAnnouncement = { [unowned self] in pinholes.announced($0) }
        discoverer = NATDiscoverer(node: node, blocking: blocking) { [unowned self] in filteringChanged() }
    }

    /// Serves dial requests and begins to ask about this node's addresses.
    func start() {
        let protocols = node.engine.local.protocols
        if settings.servesPeers { serve(in: protocols) }
        protocols.register(
            AutoNAT.dialBackProtocolID,
            .init(streamLimit: 2) { [weak self] connection in self?.receiver(on: connection) ?? DialBackReceiver.deaf })
        changed()
        watcher.start()
        mapPorts()
    }

    func stop() {
        mapper.removeAll()
        pinholes.removeAll()
        discoverer.stop()
        updateTimer.cancel()
        advanceTimer.cancel()
        watcher.stop()
        dialer.stop()
    }

    /// Connections, observations or addresses changed.
    func changed() {
        guard updateTimer.deadline == nil, !node.isStopped else { return }
        updateTimer.schedule(at: node.home.now + Self.settleTime)
    }

    var addresses: [AddressReachability] { client.reachability }

    /// What is known of the NAT in front of a socket.
    func natKind(of listener: Multiaddr) -> NATKind {
        var kind = node.engine.observed.natKind(of: listener)
        if let found = behavior(of: listener)?.kind {
            if found.mapping != .unknown { (kind.mapping, kind.allocation) = (found.mapping, found.allocation) }
            kind.filtering = found.filtering
        }
        if kind.filtering == .unknown { kind.filtering = client.filtering(of: listener) }
        return kind
    }

    /// What was found of the way to a UDP socket.
    private func behavior(of listener: Multiaddr) -> NATBehavior? {
        guard listener.contains(.udp), let ip = listener.ipAddress else { return nil }
        return discoverer.behavior(isIP4: ip.isIP4)
    }

    private func filteringChanged() {
        var filtering: [Multiaddr: NATFiltering] = [:]
        for listener in node.boundListeners { filtering[listener] = behavior(of: listener)?.kind.filtering }
        client.noteFiltering(filtering)
        drain()
    }

    /// Whether more is about to be known.
    var isLearning: Bool {
        discoverer.isAsking || !probes.isEmpty || mapper.isUndecided || pinholes.isUndecided
            || updateTimer.deadline != nil
    }

    /// Whether a gateway was asked something that may have changed it and has not answered.
    var isAskingGateway: Bool { mapper.isBusy || pinholes.isBusy }

    /// A NAT in front of this machine's own router, when something speaks for one.
    var outerNAT: OuterNAT? {
        OuterNAT(
            // Not all: a virtual private network may have its addresses from the range of carriers.
            local: [LocalAddresses.source(towards: nil)].compactMap(\.self),
            gateway: mapper.mappings.compactMap(\.externalAddress), routers: discoverer.routers)
    }

    /// Something is sent to a host from a listening socket.
    func noteContact(with address: SocketAddress, from listener: Multiaddr?) {
        if let listener, let host = address.ipAddress { contacted.note(host, from: listener, now: node.home.now) }
    }

    /// A peer said at which address it sees what is sent from a listening socket.
    func noteExternalAddress(_ seen: IPAddress, by host: IPAddress, at listener: Multiaddr) {
        guard let lost = externalAddress.noted(seen, by: host, at: listener, now: node.home.now) else { return }
        node.logger.info("this network has another address outside", metadata: ["was": "\(lost)", "is": "\(seen)"])
        node.engine.observed.addressLost(lost.unmapped)
        client.restart(now: node.home.now)
        discoverer.networkChanged()
        node.punches?.externalAddressLost(lost)
        mapper.refresh()
        pinholes.refresh()
        changed()
    }

    // MARK: Asking

    private func update() {
        guard settings.asksPeers else { return }
        discoverer.look()
        client.update(candidates, servers: servers, now: node.home.now)
        drain()
    }

    private var candidates: [AutoNATClient.Candidate] {
        var found: [AutoNATClient.Candidate] = []
        for listener in node.boundListeners {
            found += (mapper.mappings + pinholes.mappings).compactMap { address(of: $0, at: listener) }
                .map { .init(address: $0, listener: listener, origin: .mapped) }
            let observed = node.engine.observed.candidates(of: listener).prefix(Self.observedPerListener)
            found += observed.map { .init(address: $0.address, listener: listener, origin: .observed) }
            found += ListenAddresses.expanded(listener).map {
                .init(address: $0, listener: listener, origin: .listening)
            }
        }
        return found + forwarded(beside: found)
    }

    /// For each host that peers see: our own ports there. People forward ports by hand, mostly to the same number.
    private func forwarded(beside found: [AutoNATClient.Candidate]) -> [AutoNATClient.Candidate] {
        var hosts: [IPAddress] = []
        for candidate in found where candidate.origin == .observed {
            guard let host = candidate.address.ipAddress, !hosts.contains(host) else { continue }
            hosts.append(host)
        }
        return node.boundListeners.flatMap { listener in
            hosts.compactMap { host -> AutoNATClient.Candidate? in
                guard let address = listener.replacingIP(host), !found.contains(where: { $0.address == address })
                else { return nil }
                return .init(address: address, listener: listener, origin: .forwarded)
            }
        }
    }

    /// Peers that can be asked to dial this node.
    var servers: [AutoNATClient.Server] {
        let connections = node.engine.swarm.connectionInfos
        return connections.compactMap { info in
            guard info.protocols.contains(AutoNAT.dialRequestProtocolID), info.path != .relayed,
                info.id == node.engine.swarm.connection(to: info.peer)
            else { return nil }
            return AutoNATClient.Server(
                peer: info.peer, connection: info.id, address: info.remoteAddress,
                warmListeners: warmListeners(for: info.remoteAddress, besides: nil, connections))
        }
    }

    /// The listening sockets that have sent something to the host at `address`.
    private func warmListeners(
        for address: Multiaddr, besides excluded: ConnectionID?, _ connections: [ConnectionInfo]
    ) -> [Multiaddr] {
        let connected = connections.filter { $0.id != excluded && $0.remoteAddress.ipAddress == address.ipAddress }
            .compactMap { node.driver(of: $0.id)?.listener }
        guard let host = address.ipAddress else { return connected }
        return connected + node.boundListeners.filter { contacted.contains(host, from: $0, now: node.home.now) }
    }

    private func drain() {
        while let order = client.nextOrder() { carryOut(order) }
        if let deadline = client.deadline, !node.isStopped {
            advanceTimer.schedule(at: deadline)
        } else {
            advanceTimer.cancel()
        }
        announce()
    }

    private func carryOut(_ order: AutoNATClient.Order) {
        switch order {
        case .ask(let connection, let address, let nonce): ask(connection, address, nonce)
        case .cancel(let connection, let nonce):
            guard let handler = probes.removeValue(forKey: nonce), let driver = node.driver(of: connection) else {
                return
            }
            // Used on the connection's loop alone.
            nonisolated(unsafe) let probe = handler
            driver.loop.execute { probe.cancel() }
        }
    }

    private func ask(_ connection: ConnectionID, _ address: Multiaddr, _ nonce: UInt64) {
        let handler = AutoNATProbeHandler(address: address, nonce: nonce) { [weak self] answer in
            guard let self else { return }
            node.toHome { _ in self.answered(nonce, answer) }
        }
        guard let driver = node.driver(of: connection) else {
            return answered(nonce, .failure(.connectionClosed("it is gone")))
        }
        node.logger.debug("asking whether an address is reached", metadata: ["address": "\(address)"])
        probes[nonce] = handler
        nonisolated(unsafe) let probe = handler
        driver.loop.execute { [weak self] in
            do {
                _ = try driver.openStream([AutoNAT.dialRequestProtocolID], handler: probe)
            } catch {
                guard let self else { return }
                node.toHome { _ in self.answered(nonce, .failure(.connectionClosed("\(error)"))) }
            }
        }
    }

    /// Asks a server to dial an address that is none of a listening socket.
    func ask(
        _ connection: ConnectionID, toDial address: Multiaddr,
        _ answered: @escaping (Result<AutoNATResponse, StreamCloseReason>) -> Void
    ) {
        let nonce = random.next()
        otherQuestions[nonce] = answered
        ask(connection, address, nonce)
    }

    private func answered(_ nonce: UInt64, _ answer: Result<AutoNATResponse, StreamCloseReason>) {
        probes[nonce] = nil
        if let body = otherQuestions.removeValue(forKey: nonce) { return body(answer) }
        node.logger.debug("answer about an address", metadata: ["answer": "\(answer)"])
        client.answered(nonce, answer, now: node.home.now)
        drain()
    }

    private func receiver(on connection: PeerConnection) -> DialBackReceiver {
        let driver = connection.owner as? ConnectionDriver
        let address = connection.remoteAddress
        return DialBackReceiver { [weak self] nonce, completed in
            guard let self, let driver else { return completed(false) }
            nonisolated(unsafe) let completed = completed
            node.toHome { node in
                let warm = self.warmListeners(
                    for: address, besides: driver.id, node.engine.swarm.connectionInfos)
                let isExpected = self.client.nonceArrived(
                    nonce, at: driver.listener, isWarm: driver.listener.map(warm.contains) ?? false)
                driver.loop.execute { completed(isExpected) }
            }
        }
    }

    // MARK: Serving

    private func serve(in protocols: ProtocolTable) {
        var configuration = settings.server
        configuration.allowsPrivateAddresses = settings.allowsPrivateAddresses
        let speaksQUIC = node.quic != nil
        let server = AutoNATServer(configuration: configuration, random: .system) { address in
            guard address.isDialableStream || (speaksQUIC && address.isDialableQUIC) else { return false }
            return NetworkInterfaces.canReach(address)
        }
        protocols.register(
            AutoNAT.dialRequestProtocolID,
            .init(streamLimit: AutoNAT.streamLimit) { [weak self] connection in
                let loop = (connection.owner as? ConnectionDriver)?.loop
                return AutoNATRequestHandler(server: server) { request, completed in
                    guard let self, let loop else { return completed(.notReached) }
                    nonisolated(unsafe) let completed = completed
                    self.node.toHome { node in
                        node.logger.debug(
                            "dialing back",
                            metadata: ["address": "\(request.address)", "for": "\(request.remoteAddress)"])
                        self.dialer.dial(request) { outcome in loop.execute { completed(outcome) } }
                    }
                }
            })
    }

    // MARK: Results

    /// Announces what strangers reach, and tells the application when that changed.
    private func announce(isForced: Bool = false) {
        let known = client.reachability
        guard isForced || Set(known.map(Verdict.init)) != Set(told.map(Verdict.init)) else { return }
        told = known
        node.engine.announce { announced in
            let unreachable = Set(known.filter { $0.reachability == .private }.map(\.address))
            announced.unreachable = unreachable
            // What a gateway forwards is believed until it is seen not to be reached: there may be nobody to ask. Where it opened
            // pinholes, addresses are announced in any case, being this machine's own.
            let mapped = mappedAddresses.filter { $0.isPublic && !unreachable.contains($0) }
            let confirmed = known.filter { $0.reachability == .public }.map(\.address)
            announced.confirmed = confirmed + mapped.filter { !confirmed.contains($0) }
        }
        node.tellReachability(known)
        node.drain()
    }

    private struct Verdict: Hashable {
        let address: Multiaddr
        let reachability: Reachability

        init(_ known: AddressReachability) {
            address = known.address
            reachability = known.reachability
        }
    }

    // MARK: Ports that the gateway forwards

    /// Asks the gateway to forward the ports that this node listens at, when it is behind one, and to let in what comes by IPv6.
    private func mapPorts() {
        let addresses = NetworkInterfaces.addresses().compactMap(\.ipAddress)
        let isBehindGateway = !addresses.contains { if case .v4 = $0 { $0.scope == .global } else { false } }
        guard mapsPorts, isBehindGateway else {
            pinholes.update([])
            return mapper.update([])
        }
        mapper.update(targets { $0.isIP4 && $0.scope != .global })
        pinholes.update(
            Gateway.globalIPv6Addresses().map { own in
                (own, targets { !$0.isIP4 && ($0.scope == .unspecified || $0 == .v6(own)) })
            })
    }

    /// The ports at which this node listens beyond this machine, at such addresses.
    private func targets(where isWanted: (IPAddress) -> Bool) -> [PortMappingTarget] {
        node.boundListeners.compactMap { listener in
            guard let ip = listener.ipAddress, let port = listener.port, isWanted(ip) else { return nil }
            switch ip.scope {
            case .unspecified, .privateNetwork, .carrierNAT, .global:
                return PortMappingTarget(isTCP: listener.transportKind == .tcp, port: port)
            case .loopback, .linkLocal, .multicast, .reserved: return nil
            }
        }
    }

    private func mappingsChanged() {
        let mappings = mapper.mappings + pinholes.mappings
        for mapping in mappings {
            node.logger.info(
                "the gateway forwards a port",
                metadata: [
                    "protocol": "\(mapping.target.isTCP ? "tcp" : "udp")", "port": "\(mapping.target.port)",
                    "outside": "\(mapping.externalAddress.map { "\($0)" } ?? "unknown"):\(mapping.externalPort)",
                    "by": "\(mapping.method.rawValue)",
                ])
        }
        var forwarded: Set<Multiaddr> = []
        for mapping in mappings {
            for address in addresses(of: mapping) where forwarded.insert(address).inserted {
                if !forwardedAddresses.contains(address) {
                    node.events.send(.portMapped(address, by: mapping.method))
                }
            }
        }
        forwardedAddresses = forwarded
        announce(isForced: true)
        changed()
    }

    /// Where a mapping leads to a listening socket from.
    private func address(of mapping: PortMapping, at listener: Multiaddr) -> Multiaddr? {
        guard let external = mapping.externalAddress, mapping.target.port == listener.port,
            mapping.target.isTCP == (listener.transportKind == .tcp), let bound = listener.ipAddress,
            bound.isIP4 == external.isIP4
        else { return nil }
        // A pinhole leads to one address.
        if !bound.isIP4, bound.scope != .unspecified, bound != external { return nil }
        return listener.replacingIP(external)?.replacingPort(mapping.externalPort)
    }

    /// Where a mapping leads to this node from.
    func addresses(of mapping: PortMapping) -> [Multiaddr] {
        node.boundListeners.compactMap { address(of: mapping, at: $0) }
    }

    private var mappedAddresses: [Multiaddr] { mapper.mappings.flatMap(addresses) }

    // MARK: The machine's addresses

    /// Nothing that was found out of the old network says anything of the new one.
    private func networkChanged() {
        node.engine.announce { $0.listening = node.boundListeners.flatMap(ListenAddresses.expanded) }
        externalAddress.reset()
        client.restart(now: node.home.now)
        node.punches?.networkChanged()
        discoverer.networkChanged()
        mapPorts()
        recover()
    }

    /// The machine slept: all may be as it was, or nothing.
    private func woke() {
        node.punches?.doubtMappings()
        node.punches?.startOver()
        recover()
    }

    /// Finds out at once what is lost, and gets it anew.
    private func recover() {
        node.probeConnections()
        node.engine.swarm.networkChanged(now: node.home.now)
        node.engine.reservations.networkChanged(now: node.home.now)
        node.engine.reservations.handleTimeout(now: node.home.now, wallTime: .systemNow())
        mapper.refresh()
        pinholes.refresh()
        changed()
        node.drain()
    }
}

extension DialBackReceiver {
    /// Takes no nonce: the node is gone.
    fileprivate static var deaf: DialBackReceiver { DialBackReceiver { $1(false) } }
}

extension NetworkInterfaces {
    /// Whether this machine has an address of that family that reaches as far.
    static func canReach(_ address: Multiaddr) -> Bool {
        guard let ip = address.ipAddress else { return false }
        return addresses().contains { own in
            guard let own = own.ipAddress else { return false }
            switch (own, ip) {
            case (.v4, .v4): return ip.scope == .loopback || own.scope != .loopback
            case (.v6, .v6): return ip.scope == own.scope
            case (.v4, .v6), (.v6, .v4): return false
            }
        }
    }
}
