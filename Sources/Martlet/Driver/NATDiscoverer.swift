import Logging
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime

/// Has it found out how the NATs in front of this machine treat UDP, whenever there is somebody to ask and it is not known: by
/// IPv4 and by IPv6. On the home loop.
final class NATDiscoverer: @unchecked Sendable {
    /// NATs are replaced and set up anew without this machine's addresses changing.
    private static let interval = Duration.seconds(1800)
    /// When no server answered.
    private static let retryInterval = Duration.seconds(60)

    private unowned let node: NodeDriver
    private let blocking: BlockingPool
    /// The routers between this machine and the internet by IPv4, the nearest first, as far as they tell.
    private(set) var routers: [IPAddress] = []
    private var isTracing = false
    private let onChange: () -> Void
    private var families: [Family] = [Family(isIP4: true), Family(isIP4: false)]
    private var timer: LoopTimer!
    private var isStopped = false

    private struct Family {
        let isIP4: Bool
        var behavior: NATBehavior?
        var run: NATDiscoveryRun?
        /// Those that the last run had.
        var servers: [TransportAddress] = []
        var next: Instant?
        /// The host that is no stranger, while only a stranger could tell more.
        var known: IPAddress?
        /// Strangers that were asked.
        var strangers: Set<PeerID> = []
    }

    /// - Parameter onChange: called when something was found.
    init(node: NodeDriver, blocking: BlockingPool, onChange: @escaping () -> Void) {
        self.node = node
        self.blocking = blocking
        self.onChange = onChange
        timer = LoopTimer(loop: node.home) { [unowned self] in look() }
    }

    /// What was found; nil while nobody was asked.
    func behavior(isIP4: Bool) -> NATBehavior? { families.first { $0.isIP4 == isIP4 }?.behavior }

    /// Who was asked last.
    func servers(isIP4: Bool) -> [TransportAddress] { families.first { $0.isIP4 == isIP4 }?.servers ?? [] }

    /// Whether servers are being asked.
    var isAsking: Bool { isTracing || families.contains { $0.run != nil } }

    /// The machine's addresses changed.
    func networkChanged() {
        for index in families.indices {
            families[index].run?.close()
            families[index] = Family(isIP4: families[index].isIP4)
        }
        routers = []
        look()
    }

    func stop() {
        isStopped = true
        timer.cancel()
        for family in families { family.run?.close() }
    }

    /// Asks, where there is somebody to ask and something to learn.
    func look() {
        guard !isStopped else { return }
        let now = node.home.now
        for index in families.indices { look(index, now: now) }
        if let next = families.compactMap(\.next).min() { timer.schedule(at: next) } else { timer.cancel() }
    }

    private func look(_ index: Int, now: Instant) {
        let family = families[index]
        let servers = (node.punches?.servers ?? []).filter { $0.isIPv4 == family.isIP4 && $0.ip.scope == .global }
        guard family.run == nil, !servers.isEmpty else { return }
        let isNews = servers.contains { !family.servers.contains($0) } && !isComplete(family.behavior)
        let hasStranger = family.known.map { stranger(to: $0, index) != nil } ?? false
        guard isNews || hasStranger || family.next.map({ now >= $0 }) ?? true else { return }
        families[index].servers = servers
        families[index].next = nil
        let run = NATDiscoveryRun(loop: node.home, isIP4: family.isIP4) { [weak self] in self?.ended(index, $0) }
        families[index].run = run
        families[index].known = nil
        run.askStranger = { [weak self] wanted, behavior, completed in
            self?.learned(index, behavior)
            return self?.askStranger(index, wanted, completed) ?? false
        }
        // The latest first: those that answered before may be gone.
        if let server = servers.last { trace(towards: server) }
        run.start(servers.reversed(), localAddresses: Array(node.engine.observed.localAddresses))
    }

    private func isComplete(_ behavior: NATBehavior?) -> Bool {
        guard let kind = behavior?.kind else { return false }
        return kind.mapping != .unknown && kind.filtering != .unknown
    }

    private func ended(_ index: Int, _ behavior: NATBehavior?) {
        families[index].run = nil
        families[index].next =
            node.home.now + (behavior?.isAnswered == true ? Self.interval : Self.retryInterval)
        node.logger.debug(
            "how UDP is treated",
            metadata: ["by": families[index].isIP4 ? "IPv4" : "IPv6", "is": "\(String(describing: behavior))"])
        if let behavior { learned(index, behavior) }
        look()
    }

    private func learned(_ index: Int, _ behavior: NATBehavior) {
        guard behavior != families[index].behavior else { return }
        families[index].behavior = behavior
        onChange()
    }

    /// Somebody at a host that nothing was sent to, and who was not asked yet.
    private func stranger(to known: IPAddress, _ index: Int) -> AutoNATClient.Server? {
        let (isIP4, asked) = (families[index].isIP4, families[index].strangers)
        return node.reachability.servers.first { server in
            guard let ip = server.address.ipAddress?.unmapped, ip.isIP4 == isIP4 else { return false }
            return ip != known && ip.scope == known.scope && !asked.contains(server.peer)
        }
    }

    /// Has a stranger dial one of the sockets, as AutoNAT does: that packets of it come in, or not, is all that matters.
    private func askStranger(
        _ index: Int, _ wanted: NATBehaviorDiscovery.StrangerWanted, _ completed: @escaping (Bool) -> Void
    ) -> Bool {
        families[index].known = wanted.known
        guard let server = stranger(to: wanted.known, index) else { return false }
        families[index].strangers.insert(server.peer)
        node.reachability.ask(server.connection, toDial: wanted.address.quicMultiaddr) { answer in
            guard case .success(.dialed(_, .notReached)) = answer else { return completed(false) }
            completed(true)
        }
        return true
    }

    /// Looks which routers there are.
    private func trace(towards server: TransportAddress) {
        guard server.isIPv4, !isTracing else { return }
        isTracing = true
        Task { [blocking, home = node.home] in
            let found = (try? await blocking.run { RouterTrace.routers(towards: server) }) ?? []
            home.execute { self.traced(found) }
        }
    }

    private func traced(_ found: [IPAddress]) {
        guard !isStopped else { return }
        isTracing = false
        routers = found
    }
}
