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

    unowned let node: NodeDriver
    let settings: AutoNATSettings
    var client: AutoNATClient
    let dialer: DialBackDialer
    let mapsPorts: Bool
    private(set) var mapper: PortMapper!
    private(set) var pinholes: Pinholes!
    private(set) var discoverer: NATDiscoverer!
    var contacted = ContactedHosts()
    private var externalAddress = ExternalAddressMonitor()
    private var updateTimer: LoopTimer!
    var advanceTimer: LoopTimer!
    private var watcher: NetworkWatcher!
    var probes: [UInt64: AutoNATProbeHandler] = [:]
    /// Who waits for the answers to questions that are not the client's.
    var otherQuestions: [UInt64: (Result<AutoNATResponse, StreamCloseReason>) -> Void] = [:]
    var random = RandomSource.system
    private var told: [AddressReachability] = []
    /// The addresses of the gateway that were told of.
    var forwardedAddresses: Set<Multiaddr> = []

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
            node: node, onLook: { [unowned self] in looked(at: $0) }, onChange: { [unowned self] in networkChanged() },
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
        receiveDialBacks(in: protocols)
        changed()
        watcher.start()
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
    // MARK: Results

    /// Announces what strangers reach, and tells the application when that changed.
    func announce(isForced: Bool = false) {
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

    // MARK: The machine's addresses

    private func looked(at network: LocalNetwork) {
        if node.engine.observed.localAddresses != network.addresses {
            node.engine.observed.localAddresses = network.addresses
            node.engine.announce { $0.listening = node.boundListeners.flatMap(ListenAddresses.expanded) }
            changed()
            node.drain()
        }
        mapPorts()
    }

    /// Nothing that was found out of the old network says anything of the new one.
    private func networkChanged() {
        node.engine.observed.networkChanged()
        externalAddress.reset()
        client.restart(now: node.home.now)
        node.punches?.networkChanged()
        discoverer.networkChanged()
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
