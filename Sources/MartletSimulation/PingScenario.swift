import MartletConnection
import MartletCore
import MartletIdentity
import MartletSwarm

/// Nodes that connect to each other and ping all their peers for a while: what a mesh does when nobody uses it.
///
///     let result = PingScenario(nodeCount: 100, seed: 7).run { print($0) }
///
/// Every node has the same number of connections, half of them dialed by it; whom, and everything else that is random,
/// follows from the seed. The same scenario writes the same event log, byte for byte.
public struct PingScenario: Sendable {
    public var nodeCount: Int
    public var seed: UInt64
    /// Connections of each node; fewer when there are not so many other nodes.
    public var connectionsPerNode = 20
    /// How long pings go on once the connections are there.
    public var duration = Duration.seconds(60)
    /// Each node pings each of its peers once in this time.
    public var pingInterval = Duration.seconds(15)
    /// The dials are spread over this time.
    public var dialWindow = Duration.seconds(5)
    public var conditions = NetworkConditions()

    public init(nodeCount: Int, seed: UInt64) {
        self.nodeCount = nodeCount
        self.seed = seed
    }

    /// What came of it.
    public struct Result: Sendable {
        /// Ends of connections that were established and whose peer was identified.
        public var connectionEnds = 0
        /// Events of the simulated network: deliveries, timers and the like.
        public var eventCount: UInt64 = 0
        public var pingCount = 0
        /// Connections that were lost or never made, and pings that were not answered: none, in a healthy network.
        public var failureCount = 0
        /// The SHA-256 of the whole event log, in hexadecimal.
        public var logDigest = ""
    }

    /// Runs the scenario.
    ///
    /// - Parameters:
    ///   - log: gets the event log in pieces: one JSON object a line, times in nanoseconds of virtual time.
    ///   - connected: called when all connections are there and the pings are about to begin.
    public func run(log: @escaping ([UInt8]) -> Void, connected: () -> Void = {}) -> Result {
        PingRun(self, log: log).run(connected)
    }
}

/// A `PingScenario` under way.
///
/// Everything happens on the thread that runs the simulation; planned actions have to be Sendable all the same.
private final class PingRun: @unchecked Sendable {
    private let scenario: PingScenario
    private let simulation: Simulation
    private let log: EventLog
    private var result = PingScenario.Result()
    private var indices: [PeerID: Int32] = [:]
    /// The connected peers of each node, in the order in which they came.
    private var peers: [[Int32]] = []
    private var expectedEnds = 0
    private var end = Instant.distantFuture

    /// Time for the last dials to be done with, after the window in which they begin.
    private static let settling = Duration.seconds(30)
    /// Time for the last pings to be answered.
    private static let trailing = Duration.seconds(2)

    init(_ scenario: PingScenario, log: @escaping ([UInt8]) -> Void) {
        self.scenario = scenario
        simulation = Simulation(seed: scenario.seed, conditions: scenario.conditions)
        self.log = EventLog(log)
    }

    func run(_ connected: () -> Void) -> PingScenario.Result {
        addNodes()
        planDials()
        simulation.run(for: scenario.dialWindow)
        simulation.run(until: { self.result.connectionEnds >= self.expectedEnds }, limit: Self.settling)
        result.failureCount += max(0, expectedEnds - result.connectionEnds)
        connected()
        planPings()
        simulation.run(for: scenario.duration + Self.trailing)
        result.eventCount = simulation.eventCount
        result.logDigest = log.finish()
        return result
    }

    private func addNodes() {
        peers = Array(repeating: [], count: scenario.nodeCount)
        for index in 0..<scenario.nodeCount {
            let node = simulation.addNode()
            indices[node.peerID] = Int32(index)
            node.onEvent = { [unowned self, unowned node] in heard($0, at: node) }
        }
    }

    /// Nodes stand in a circle in random order, and each dials those at some random distances from it. So all have the
    /// same number of connections and no two nodes have more than one.
    private func planDials() {
        let count = scenario.nodeCount
        let circle = Array(0..<count).shuffled(using: &simulation.random)
        var distances = Array(1..<max(1, (count + 1) / 2)).shuffled(using: &simulation.random)
        let isCutShort = distances.count < scenario.connectionsPerNode / 2
        distances = Array(distances.prefix(scenario.connectionsPerNode / 2))
        for distance in distances {
            for place in 0..<count { planDial(from: circle[place], to: circle[(place + distance) % count]) }
        }
        // The node on the opposite side is the same seen from both, so only one of the two dials.
        if isCutShort, count % 2 == 0 {
            for place in 0..<count / 2 { planDial(from: circle[place], to: circle[place + count / 2]) }
        }
    }

    private func planDial(from: Int, to: Int) {
        expectedEnds += 2
        simulation.schedule(after: random(below: scenario.dialWindow)) { simulation in
            simulation.nodes[from].connect(to: simulation.nodes[to])
        }
    }

    private func planPings() {
        end = simulation.now + scenario.duration
        for index in 0..<scenario.nodeCount {
            simulation.schedule(after: random(below: scenario.pingInterval)) { [unowned self] _ in pingAll(of: index) }
        }
    }

    private func random(below limit: Duration) -> Duration {
        .nanoseconds(Int64.random(in: 0..<max(1, limit.nanoseconds), using: &simulation.random))
    }

    // MARK: Pings

    private func pingAll(of index: Int) {
        guard simulation.now < end else { return }
        for peer in peers[index] { ping(from: index, to: Int(peer)) }
        simulation.schedule(after: scenario.pingInterval) { [unowned self] _ in pingAll(of: index) }
    }

    private func ping(from index: Int, to peer: Int) {
        weak var weakDialer: PingDialer?
        let dialer = PingDialer(random: simulation.random.split()) { [unowned self] outcome in
            answered(outcome, from: index, to: peer)
            weakDialer?.finish()
        }
        weakDialer = dialer
        dialer.ping()
        do {
            let node = simulation.nodes[index]
            let other = simulation.nodes[peer].peerID
            guard try node.openStream(to: other, protocol: Ping.protocolID, handler: dialer) != nil else {
                return pingFailed("not connected", from: index, to: peer)
            }
        } catch {
            pingFailed("\(error)", from: index, to: peer)
        }
    }

    private func answered(_ outcome: PingDialer.Outcome, from index: Int, to peer: Int) {
        switch outcome {
        case .success(let time):
            result.pingCount += 1
            log.begin("ping", simulation.now, index)
            log.field("peer", peer)
            log.field("rtt_us", Int(time.nanoseconds / 1000))
            log.endLine()
        case .failure(.finished): break
        case .failure(let reason): pingFailed("\(reason)", from: index, to: peer)
        }
    }

    private func pingFailed(_ reason: String, from index: Int, to peer: Int) {
        result.failureCount += 1
        log.begin("ping-failed", simulation.now, index)
        log.field("peer", peer)
        log.field("reason", reason)
        log.endLine()
    }

    // MARK: Connections

    private func heard(_ event: SwarmEvent, at node: SimulatedNode) {
        switch event {
        case .connected(let peer, _, let role):
            guard let other = indices[peer] else { return }
            peers[node.index].append(other)
            log.begin("connected", simulation.now, node.index)
            log.field("peer", Int(other))
            log.field("direction", role == .dialer ? "outbound" : "inbound")
            log.endLine()
        case .identified(let peer, _):
            guard let other = indices[peer] else { return }
            result.connectionEnds += 1
            log.begin("identified", simulation.now, node.index)
            log.field("peer", Int(other))
            log.endLine()
        case .pathChanged: break
        case .disconnected(let peer, let reason):
            guard let other = indices[peer] else { return }
            peers[node.index].removeAll { $0 == other }
            result.failureCount += 1
            log.begin("disconnected", simulation.now, node.index)
            log.field("peer", Int(other))
            log.field("reason", "\(reason)")
            log.endLine()
        }
    }
}
