public import Martlet
import MartletConnection
public import MartletCore
import MartletIdentity
import MartletSwarm

/// A network of production engines on a virtual clock. From the same seed it runs the same way, event for event.
///
///     let simulation = Simulation(seed: 7)
///     let a = simulation.addNode(), b = simulation.addNode()
///     a.connect(to: b)
///     simulation.run(for: .seconds(5))
///
/// Single-threaded; only the clock, the wire and the randomness are not those of a real node.
public final class Simulation {
    public private(set) var now = Instant(nanoseconds: 0)
    public private(set) var nodes: [SimulatedNode] = []
    public let conditions: NetworkConditions
    public var random: RandomSource
    var lastRequest: UInt64 = 0

    private var queue = EventQueue()
    private var byAddress: [Multiaddr: SimulatedNode] = [:]
    private var dirty: [SimulatedConnection] = []
    private var partitions: [Int: Int] = [:]
    private let receiveBuffer: ReceiveBuffer
    private var transmitBuffer: TransmitBuffer
    private var isServicing = false

    /// The virtual wall clock at the start: 2026-01-01 00:00 UTC.
    private static let epoch = WallTime(nanosecondsSince1970: 1_767_225_600 * 1_000_000_000)

    public init(seed: UInt64, conditions: NetworkConditions = NetworkConditions()) {
        random = RandomSource(seed: seed)
        self.conditions = conditions
        receiveBuffer = ReceiveBuffer(pool: BufferPool(blockSize: 1 << 20, idleLimit: 4))
        transmitBuffer = TransmitBuffer(storage: BytesStorage(capacity: 512 << 10))
    }

    // MARK: Building

    /// Adds a node; its key comes from the seed.
    @discardableResult
    public func addNode(_ configure: (inout NodeEngine.Configuration) -> Void = { _ in }) -> SimulatedNode {
        var configuration = NodeEngine.Configuration()
        configure(&configuration)
        let index = nodes.count
        let identity = KeyPair(random: &random)
        let engine = NodeEngine(
            identity: identity, configuration: configuration, random: &random, now: now, wallTime: Self.epoch)
        let address = Self.address(index)
        let node = SimulatedNode(index: index, engine: engine, address: address, simulation: self)
        engine.swarm.setListenAddresses([address])
        nodes.append(node)
        byAddress[address] = node
        return node
    }

    private static func address(_ index: Int) -> Multiaddr {
        let host = "10.\(index >> 16 & 255).\(index >> 8 & 255).\(index & 255)"
        guard let address = try? Multiaddr("/ip4/\(host)/tcp/4001") else {
            preconditionFailure("address of node \(index)")
        }
        return address
    }

    /// Calls `body` at a later moment.
    public func schedule(after delay: Duration, _ body: @escaping @Sendable (Simulation) -> Void) {
        queue.plan(.action(body), at: now + delay)
    }

    // MARK: Faults

    /// Splits the network: nodes in different groups do not hear each other. Nodes not named are in group 0.
    public func partition(_ groups: [Int: Int]) { partitions = groups }

    /// Ends every partition. Bytes held back arrive after a retransmission.
    public func heal() { partitions = [:] }

    /// Takes a node off the network without a goodbye.
    public func kill(_ node: SimulatedNode) { node.isDown = true }

    private func isCut(_ left: SimulatedNode, _ right: SimulatedNode) -> Bool {
        left.isDown || right.isDown || partitions[left.index, default: 0] != partitions[right.index, default: 0]
    }

    // MARK: Running

    /// Runs until nothing is left to do before `now + duration`, and leaves the clock there.
    public func run(for duration: Duration) {
        let end = now + duration
        serviceDirty()
        while let time = queue.nextTime, time <= end { step() }
        now = end
    }

    /// Runs until `condition` holds, at most for `limit`. Returns whether it holds.
    @discardableResult
    public func run(until condition: () -> Bool, limit: Duration) -> Bool {
        let end = now + limit
        serviceDirty()
        while !condition() {
            guard let time = queue.nextTime, time <= end else { return false }
            step()
        }
        return true
    }

    /// Carries out what a node was told directly, outside an event of the simulation.
    public func settle(_ node: SimulatedNode) {
        drain(node)
        for end in node.connections.values.sorted(by: { $0.connection.id < $1.connection.id }) { markDirty(end) }
        serviceDirty()
    }

    /// Events handled so far.
    public var eventCount: UInt64 { queue.processedCount }

    private func step() {
        guard let (time, event) = queue.next() else { return }
        now = max(now, time)
        switch event {
        case .deliver(let bytes, let end): deliver(bytes, to: end)
        case .endOfFile(let end):
            guard !end.isClosed else { break }
            end.other = nil
            end.connection.transportClosed(.endOfFile, now: now)
            markDirty(end)
        case .connectionTimer(let end):
            // Only the timer planned last counts: an earlier deadline left a later event behind.
            guard end.timerAt == time else { return }
            end.timerAt = nil
            guard !end.isClosed, !end.node.isDown else { break }
            if let deadline = end.connection.deadline, deadline <= now { end.connection.handleTimeout(now: now) }
            markDirty(end)
        case .nodeTimer(let node):
            guard node.timerAt == time else { return }
            node.timerAt = nil
            guard !node.isDown else { break }
            node.engine.swarm.handleTimeout(now: now)
            drain(node)
        case .dialArrives(let dial): arrived(dial)
        case .action(let body): body(self)
        }
        serviceDirty()
    }

    // MARK: The wire

    private func deliver(_ bytes: Bytes, to end: SimulatedConnection) {
        guard !end.isClosed, !end.node.isDown else { return }
        if let other = end.other, isCut(end.node, other.node) {
            // A reliable transport tries again.
            return queue.plan(.deliver(bytes, to: end), at: now + conditions.retransmission)
        }
        let space = receiveBuffer.space(minimum: bytes.count, keeping: end.connection.leftover)
        bytes.withUnsafeBytes { space.copyMemory(from: $0) }
        end.connection.receive(receiveBuffer.received(bytes.count), now: now)
        markDirty(end)
    }

    private func send(_ bytes: Bytes, from end: SimulatedConnection) {
        guard let other = end.other else { return }
        var delay = end.latency
        if let bandwidth = conditions.bandwidth {
            delay += .nanoseconds(Int64(bytes.count) * 1_000_000_000 / Int64(bandwidth))
        }
        if conditions.loss > 0 {
            let packets = (bytes.count + NetworkConditions.packetSize - 1) / NetworkConditions.packetSize
            for _ in 0..<packets where Double.random(in: 0..<1, using: &random) < conditions.loss {
                delay += conditions.retransmission
            }
        }
        end.arrival = max(end.arrival, now + delay)
        queue.plan(.deliver(bytes, to: other), at: end.arrival)
    }

    func markDirty(_ end: SimulatedConnection) {
        guard !end.isDirty else { return }
        end.isDirty = true
        dirty.append(end)
    }

    /// Gives every connection that has something to say its turn, until none has.
    private func serviceDirty() {
        guard !isServicing else { return }
        isServicing = true
        defer { isServicing = false }
        while !dirty.isEmpty {
            let batch = dirty
            dirty.removeAll(keepingCapacity: true)
            for end in batch { service(end) }
        }
    }

    private func service(_ end: SimulatedConnection) {
        end.isDirty = false
        guard !end.isClosed else { return }
        let connection = end.connection
        connection.serviced()
        var isOver = false
        var concernsSwarm = false
        while let event = connection.nextEvent() {
            switch event {
            case .closed:
                isOver = true
                concernsSwarm = true
            // Only noted there. It is what happens most.
            case .roundTrip: break
            default: concernsSwarm = true
            }
            end.node.engine.swarm.connection(connection.id, reports: event, now: now)
        }
        while connection.hasPendingTransmit {
            transmitBuffer.clear()
            connection.transmit(into: &transmitBuffer, now: now)
            guard transmitBuffer.count > 0 else { break }
            send(Bytes(copying: transmitBuffer.written), from: end)
        }
        if isOver { close(end) } else { plan(end) }
        if concernsSwarm { drain(end.node) }
    }

    private func plan(_ end: SimulatedConnection) {
        guard let deadline = end.connection.deadline else { return }
        if let planned = end.timerAt, planned <= deadline { return }
        end.timerAt = max(deadline, now)
        queue.plan(.connectionTimer(end), at: max(deadline, now))
    }

    private func close(_ end: SimulatedConnection) {
        end.isClosed = true
        end.node.connections[end.connection.id] = nil
        if let other = end.other {
            end.arrival = max(end.arrival, now + end.latency)
            queue.plan(.endOfFile(other), at: end.arrival)
        }
        end.other = nil
    }

    // MARK: Orders

    /// Carries out what a node's swarm wants.
    func drain(_ node: SimulatedNode) {
        while let order = node.engine.swarm.nextOrder() {
            switch order {
            case .dial(let id, let address, let expecting): dial(node, id, address, expecting)
            case .dialThroughRelay(let id, _, _, _):
                node.engine.swarm.dialFailed(id, reason: "no relays in this simulation", now: now)
            case .resolve(let id, let address):
                node.engine.swarm.resolved(id, address, .failure(DialReason("no names in a simulation")), now: now)
            case .close(let id, let reason): close(node, id, reason)
            case .retire(let id): node.connections[id]?.connection.retire(now: now)
            case .reinstate(let id): node.connections[id]?.connection.reinstate(now: now)
            case .pushIdentify(let id): node.connections[id]?.connection.pushIdentify(now: now)
            case .completed: break
            case .event(let event): node.onEvent?(event)
            }
        }
        // Peers are not persisted here, and the list of changes must not grow.
        _ = node.engine.swarm.takePeerChanges()
        guard let deadline = node.engine.swarm.deadline else { return }
        if let planned = node.timerAt, planned <= deadline { return }
        node.timerAt = max(deadline, now)
        queue.plan(.nodeTimer(node), at: max(deadline, now))
    }

    private func close(_ node: SimulatedNode, _ id: ConnectionID, _ reason: String) {
        guard let end = node.connections[id] else {
            return node.engine.swarm.dialFailed(id, reason: reason, now: now)
        }
        end.connection.close(now: now)
        markDirty(end)
    }

    private func dial(_ node: SimulatedNode, _ id: ConnectionID, _ address: Multiaddr, _ expecting: PeerID?) {
        let latency = drawLatency()
        queue.plan(
            .dialArrives(
                SimulatedDial(node: node, connection: id, address: address, expecting: expecting, latency: latency)),
            at: now + latency * 2)
    }

    private func drawLatency() -> Duration {
        let range = conditions.latency
        guard range.lowerBound < range.upperBound else { return range.lowerBound }
        return .nanoseconds(
            Int64.random(in: range.lowerBound.nanoseconds...range.upperBound.nanoseconds, using: &random))
    }

    private func arrived(_ dial: SimulatedDial) {
        let node = dial.node
        guard !node.isDown, !node.engine.swarm.isClosing(dial.connection) else { return }
        defer { drain(node) }
        guard let target = byAddress[dial.address], !isCut(node, target) else {
            return node.engine.swarm.dialFailed(dial.connection, reason: "host unreachable", now: now)
        }
        guard let accepted = try? target.engine.swarm.accepted(from: node.address, now: now) else {
            return node.engine.swarm.dialFailed(dial.connection, reason: "connection refused", now: now)
        }
        let near = makeEnd(node, dial.connection, .dialer, dial.address, dial.expecting, dial.latency)
        let far = makeEnd(target, accepted, .listener, node.address, nil, dial.latency)
        near.other = far
        far.other = near
        markDirty(near)
        markDirty(far)
        drain(target)
    }

    private func makeEnd(
        _ node: SimulatedNode, _ id: ConnectionID, _ role: ConnectionRole, _ remote: Multiaddr, _ expecting: PeerID?,
        _ latency: Duration
    ) -> SimulatedConnection {
        let connection = node.engine.factory.makeConnection(
            id, role: role, remoteAddress: remote, expecting: expecting, random: random.split(), now: now)
        let end = SimulatedConnection(connection: connection, node: node, latency: latency, now: now)
        node.connections[id] = end
        return end
    }
}
