import Martlet
import MartletConnection
import MartletCore
import MartletIdentity
import MartletSimulation
import MartletSwarm
import Testing

/// What one node was told, in words, for comparing runs.
final class EventRecord {
    var lines: [String] = []

    func watch(_ simulation: Simulation) {
        for node in simulation.nodes {
            node.onEvent = { [unowned self, unowned simulation, index = node.index] event in
                lines.append("\(simulation.now.nanoseconds) \(index) \(event)")
            }
        }
    }
}

private func connectedPair(_ seed: UInt64 = 1, _ conditions: NetworkConditions = .perfect) -> (
    Simulation, SimulatedNode, SimulatedNode
) {
    let simulation = Simulation(seed: seed, conditions: conditions)
    let a = simulation.addNode()
    let b = simulation.addNode()
    a.connect(to: b)
    simulation.run(for: .seconds(1))
    return (simulation, a, b)
}

@Test func twoEnginesConnectAndIdentifyEachOther() {
    let simulation = Simulation(seed: 1)
    let a = simulation.addNode { $0.agentVersion = "a/1" }
    let b = simulation.addNode { $0.agentVersion = "b/1" }
    a.connect(to: b)
    simulation.run(for: .seconds(2))
    #expect(a.engine.swarm.connectedPeers == [b.peerID])
    #expect(b.engine.swarm.connectedPeers == [a.peerID])
    #expect(a.engine.swarm.peers[b.peerID]?.agentVersion == "b/1")
    #expect(b.engine.swarm.peers[a.peerID]?.agentVersion == "a/1")
    #expect(a.engine.swarm.peers[b.peerID]?.addresses == [b.address])
    #expect(b.engine.swarm.peers[a.peerID]?.signedRecord != nil)
    #expect(a.engine.swarm.connectionInfos.first?.protocols.contains("/ipfs/ping/1.0.0") == true)
}

@Test func theSameSeedGivesTheSameEvents() {
    func run(_ seed: UInt64) -> [String] {
        let simulation = Simulation(seed: seed)
        for _ in 0..<12 { simulation.addNode() }
        let record = EventRecord()
        record.watch(simulation)
        for node in simulation.nodes {
            for _ in 0..<4 {
                let other = simulation.nodes[Int.random(in: 0..<12, using: &simulation.random)]
                if other !== node { node.connect(to: other) }
            }
        }
        simulation.run(for: .seconds(10))
        simulation.kill(simulation.nodes[3])
        simulation.run(for: .seconds(10))
        return record.lines
    }
    let first = run(42)
    #expect(first.count > 100)
    #expect(first == run(42))
    #expect(first != run(43))
}

@Test func crossedDialsLeaveOneConnection() {
    let simulation = Simulation(seed: 3)
    let a = simulation.addNode()
    let b = simulation.addNode()
    a.connect(to: b)
    b.connect(to: a)
    simulation.run(for: .seconds(10))
    #expect(a.connections.count == 1)
    #expect(b.connections.count == 1)
}

@Test func aPeerThatDiesSilentlyIsNoticedWithinThreeSeconds() {
    let (simulation, a, b) = connectedPair()
    simulation.run(for: .seconds(5))
    let diedAt = simulation.now
    simulation.kill(b)
    #expect(simulation.run(until: { a.engine.swarm.connectedPeers.isEmpty }, limit: .seconds(10)))
    #expect(simulation.now - diedAt >= .seconds(1))
    #expect(simulation.now - diedAt <= .seconds(3.6))
}

@Test func aConnectionClosedInOrderIsNoticedAtOnce() {
    let (simulation, a, b) = connectedPair()
    let closedAt = simulation.now
    b.engine.swarm.disconnect(a.peerID, reason: "test")
    simulation.settle(b)
    #expect(simulation.run(until: { a.engine.swarm.connectedPeers.isEmpty }, limit: .seconds(10)))
    #expect(simulation.now - closedAt <= .milliseconds(10))
}

@Test func aShortPartitionIsSurvivedAndALongOneIsNot() {
    let (simulation, a, _) = connectedPair()
    simulation.partition([0: 1])
    simulation.run(for: .seconds(1))
    simulation.heal()
    simulation.run(for: .seconds(5))
    #expect(a.engine.swarm.connectedPeers.count == 1)
    simulation.partition([0: 1])
    simulation.run(for: .seconds(10))
    #expect(a.engine.swarm.connectedPeers.isEmpty)
}

@Test func aDialIntoAPartitionFailsAndSaysWhy() {
    let simulation = Simulation(seed: 1)
    let a = simulation.addNode()
    let b = simulation.addNode()
    simulation.partition([1: 1])
    a.connect(to: b)
    simulation.run(for: .seconds(60))
    #expect(a.engine.swarm.connectedPeers.isEmpty)
    #expect(a.engine.swarm.connectionCount == 0)
}

@Test func pingsComeBackOverALossyNetwork() throws {
    var conditions = NetworkConditions()
    conditions.loss = 0.2
    conditions.latency = .milliseconds(10)...(.milliseconds(10))
    let (simulation, a, b) = connectedPair(9, conditions)
    simulation.run(for: .seconds(5))
    var times: [Duration] = []
    var failures = 0
    let dialer = PingDialer(random: RandomSource(seed: 4)) { outcome in
        switch outcome {
        case .success(let time): times.append(time)
        case .failure: failures += 1
        }
    }
    try a.openStream(to: b.peerID, protocol: Ping.protocolID, handler: dialer)
    for _ in 0..<20 {
        dialer.ping()
        let count = times.count
        simulation.settle(a)
        #expect(simulation.run(until: { times.count > count }, limit: .seconds(10)))
    }
    #expect(failures == 0)
    #expect(times.allSatisfy { $0 >= .milliseconds(20) })
    #expect(times.contains { $0 >= .milliseconds(200) })
}

/// Collects what happens on a stream.
final class Recorder: StreamHandler {
    var isOpen = false
    var received: [UInt8] = []
    var isRemoteFinished = false
    var closed: [StreamCloseReason] = []
    var consumes = true

    func streamOpened(_ stream: PeerStream) { isOpen = true }
    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        received += bytes.array
        if consumes { stream.consumed(bytes.count) }
    }
    func streamRemoteFinished(_ stream: PeerStream) { isRemoteFinished = true }
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { closed.append(reason) }
}

@Test func aProtocolNobodySpeaksIsRefusedByName() throws {
    let (simulation, a, b) = connectedPair()
    let recorder = Recorder()
    try a.openStream(to: b.peerID, protocol: "/nobody/1", handler: recorder)
    simulation.run(for: .seconds(1))
    #expect(recorder.closed == [.protocolNotSupported(["/nobody/1"])])
    #expect(!recorder.isOpen)
}

@Test func dataSentWithTheProposalArrives() throws {
    let simulation = Simulation(seed: 1, conditions: .perfect)
    let a = simulation.addNode()
    let b = simulation.addNode()
    let answered = Recorder()
    nonisolated(unsafe) let handler = answered
    b.engine.local.protocols.register("/upper/1", .init(streamLimit: 1) { _ in handler })
    a.connect(to: b)
    simulation.run(for: .seconds(1))
    let recorder = Recorder()
    let stream = try #require(try a.openStream(to: b.peerID, protocol: "/upper/1", handler: recorder))
    // Identify said that b speaks it, so the stream is open at once and its data needs no round trip.
    #expect(recorder.isOpen)
    stream.send(Bytes(utf8: "hello"))
    stream.finish()
    simulation.settle(a)
    simulation.run(for: .milliseconds(1))
    #expect(answered.received == Array("hello".utf8))
    #expect(answered.isRemoteFinished)
}

@Test func streamsOfOneProtocolAreLimitedPerConnection() throws {
    let (simulation, a, b) = connectedPair()
    var recorders: [Recorder] = []
    for _ in 0..<(Ping.inboundStreamLimit + 2) {
        let recorder = Recorder()
        recorders.append(recorder)
        try a.openStream(to: b.peerID, protocol: Ping.protocolID, handler: recorder)
    }
    simulation.run(for: .seconds(1))
    #expect(recorders.filter { $0.closed.isEmpty }.count == Ping.inboundStreamLimit)
    #expect(a.engine.swarm.connectedPeers == [b.peerID])
}

@Test func aRetiringConnectionThatIsUsedAgainStaysUntilItIsIdle() throws {
    let (simulation, a, b) = connectedPair()
    b.engine.local.protocols.register("/hold/1", .init(streamLimit: 1) { _ in Recorder() })
    let connection = try #require(a.connections.values.first?.connection)
    simulation.run(for: .seconds(1))
    connection.retire(now: simulation.now)
    simulation.settle(a)
    simulation.run(for: .seconds(1))
    let stream = try #require(try a.openStream(to: b.peerID, protocol: "/hold/1", handler: Recorder()))
    simulation.settle(a)
    let before = simulation.eventCount
    simulation.run(for: .seconds(10))
    #expect(stream.isOpen)
    // Pings and their answers; a timer that is never off would have gone off at one moment for ever.
    #expect(simulation.eventCount - before < 1000)
    stream.reset()
    simulation.settle(a)
    simulation.run(for: .seconds(5))
    #expect(a.connections.isEmpty)
}

/// Both sides had let it go in favour of another, which is lost before the two seconds are over.
@Test func aRetiringConnectionThatBecomesTheOnlyOneStays() throws {
    let (simulation, a, b) = connectedPair()
    simulation.run(for: .seconds(3))
    let first = try #require(a.connections.values.first).connection
    a.connectAgain(to: b)
    simulation.run(for: .seconds(1))
    #expect(a.connections.count == 2)
    #expect(a.engine.swarm.connectionInfos.filter(\.isRetiring).count == 1)
    let kept = try #require(a.engine.swarm.connection(to: b.peerID))
    a.closeConnection(to: b)
    simulation.run(for: .seconds(10))
    #expect(a.connections.count == 1 && a.connections[kept] == nil)
    #expect(b.connections.count == 1)
    #expect(a.engine.swarm.connectionInfos.allSatisfy { !$0.isRetiring })
    #expect(first.streamCount == 0)
    // It may be let go again, when there is another once more.
    a.connectAgain(to: b)
    simulation.run(for: .seconds(10))
    #expect(a.connections.count == 1)
}

@Test func perfSendsWhatWasAskedFor() throws {
    let simulation = Simulation(seed: 1, conditions: .perfect)
    let a = simulation.addNode()
    let b = simulation.addNode { $0.servesPerf = true }
    a.connect(to: b)
    simulation.run(for: .seconds(1))
    let recorder = Recorder()
    let stream = try #require(try a.openStream(to: b.peerID, protocol: Perf.protocolID, handler: recorder))
    stream.send(Bytes([0, 0, 0, 0, 0, 0x30, 0, 1]))
    stream.send(Bytes([UInt8](repeating: 7, count: 100_000)))
    stream.finish()
    simulation.settle(a)
    simulation.run(for: .seconds(1))
    #expect(recorder.received.count == 0x300001)
    #expect(recorder.isRemoteFinished)
    #expect(recorder.closed == [.finished])
}

@Test func aPeerOfAnotherNetworkIsSentAway() {
    let simulation = Simulation(seed: 1, conditions: .perfect)
    let a = simulation.addNode {
        $0.network = "blue"
        $0.isNetworkExclusive = true
    }
    let b = simulation.addNode { $0.network = "red" }
    a.connect(to: b)
    simulation.run(for: .seconds(3))
    #expect(a.connections.isEmpty)
    #expect(b.connections.isEmpty)
}

@Test func aChangeOfAddressesIsPushed() throws {
    let (simulation, a, b) = connectedPair()
    let moved = try Multiaddr("/ip4/10.9.9.9/tcp/4001")
    b.engine.swarm.setListenAddresses([moved])
    simulation.settle(b)
    simulation.run(for: .seconds(1))
    #expect(a.engine.swarm.peers[b.peerID]?.addresses == [moved])
}

@Test func aPeerThatNeverFinishesNegotiatingLosesTheStreamOnly() throws {
    let (simulation, a, b) = connectedPair()
    // A raw stream on which nothing is ever proposed.
    let end = try #require(a.connections.values.first)
    let id = try end.connection.muxer.openStream(now: simulation.now)
    end.connection.muxer.send(Bytes([19]), on: id)
    simulation.settle(a)
    simulation.run(for: .seconds(5))
    #expect(b.connections.values.first?.connection.streamCount == 1)
    simulation.run(for: .seconds(10))
    #expect(b.connections.values.first?.connection.streamCount == 0)
    #expect(a.engine.swarm.connectedPeers == [b.peerID])
}
