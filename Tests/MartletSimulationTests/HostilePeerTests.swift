import Martlet
import MartletCore
import MartletIdentity
import MartletSimulation
import MartletSwarm
import Testing

/// What a connected peer may try with the protocols that every node serves: the stream ends by name, the connection goes on.

/// Answers an opened stream with bytes made beforehand.
private final class Script: StreamHandler {
    private let bytes: [UInt8]
    private let finishes: Bool

    init(_ bytes: [UInt8], finishes: Bool = true) {
        self.bytes = bytes
        self.finishes = finishes
    }

    func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(bytes))
        if finishes { stream.finish() }
    }
    func streamReceived(_ bytes: Bytes, on stream: PeerStream) { stream.consumed(bytes.count) }
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}

/// A pair of which the second node answers `protocolID` with `script`, connected.
private func pair(
    answering protocolID: String, with script: [UInt8], finishes: Bool = true
) -> (Simulation, SimulatedNode, SimulatedNode) {
    let simulation = Simulation(seed: 1, conditions: .perfect)
    let honest = simulation.addNode()
    let hostile = simulation.addNode()
    hostile.engine.local.protocols.register(
        protocolID, .init(streamLimit: 8) { _ in Script(script, finishes: finishes) })
    honest.connect(to: hostile)
    simulation.run(for: .seconds(1))
    return (simulation, honest, hostile)
}

private func identifyMessage(_ fields: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    Varint.append(UInt64(fields.count), to: &bytes)
    return bytes + fields
}

/// One protocol name as a field of an identify message.
private func protocolField(_ name: String) -> [UInt8] { [0x1A, UInt8(name.utf8.count)] + Array(name.utf8) }

@Test(arguments: [
    // A length beyond the limit, of which nothing follows.
    [0x81, 0x80, 0x02],
    // A length of more bytes than a varint has.
    [UInt8](repeating: 0xFF, count: 11),
    // Ends within a message, and before the first.
    [0x20, 0x1A, 0x05],
    [],
    // What is no protobuf.
    identifyMessage([UInt8](repeating: 0xFF, count: 40)),
    // More messages than an exchange may have.
    [UInt8]((0..<11).flatMap { _ in identifyMessage(protocolField("/a/1")) }),
    // Protocols planted over several messages.
    [UInt8](
        (0..<3).flatMap { part in identifyMessage((0..<200).flatMap { protocolField("/p/\(part)/\($0)") }) }),
    // A signed record that nobody signed.
    identifyMessage([0x42, 4, 1, 2, 3, 4]),
])
func identifyThatBreaksItsRulesIsRefusedAndRemembersNothing(_ answer: [UInt8]) throws {
    let (simulation, honest, hostile) = pair(answering: Identify.protocolID, with: answer)
    #expect(honest.engine.swarm.peers[hostile.peerID]?.agentVersion == nil)
    let end = try #require(honest.connections.values.first)
    #expect(end.connection.remoteProtocols == nil)
    #expect(end.connection.streamCount == 0)
    // The peer may be of use all the same.
    simulation.run(for: .seconds(5))
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}

@Test func identifyOfSomeoneElseIsRefused() throws {
    let stranger = KeyPair(seed: [UInt8](repeating: 9, count: 32))
    let key = stranger.publicKey.protobuf
    let (_, honest, hostile) = pair(
        answering: Identify.protocolID, with: identifyMessage([0x0A, UInt8(key.count)] + key))
    #expect(honest.engine.swarm.peers[stranger.peerID] == nil)
    #expect(honest.connections.values.first?.connection.remoteProtocols == nil)
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}

@Test func signedRecordOfSomeoneElseIsRefused() throws {
    let stranger = KeyPair(seed: [UInt8](repeating: 9, count: 32))
    let record = try PeerRecord(
        peerID: stranger.peerID, sequence: 1, addresses: [try Multiaddr("/ip4/10.0.0.9/tcp/1")])
    let envelope = record.sealed(with: stranger).bytes
    var field: [UInt8] = [0x42]
    Varint.append(UInt64(envelope.count), to: &field)
    let (_, honest, hostile) = pair(answering: Identify.protocolID, with: identifyMessage(field + envelope))
    #expect(honest.engine.swarm.peers[stranger.peerID] == nil)
    #expect(honest.engine.swarm.peers[hostile.peerID]?.signedRecord == nil)
}

@Test func identifyThatNeverEndsTimesOut() throws {
    let (simulation, honest, hostile) = pair(
        answering: Identify.protocolID, with: [0x40, 0x1A, 0x05], finishes: false)
    let end = try #require(honest.connections.values.first)
    #expect(end.connection.streamCount == 1)
    simulation.run(for: .seconds(11))
    #expect(end.connection.streamCount == 0)
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}

@Test func pushesBeyondTwoAtATimeAreRefused() throws {
    let (simulation, honest, hostile) = pair(answering: "/unused/1", with: [])
    let recorders = (0..<6).map { _ in Recorder() }
    for recorder in recorders {
        let stream = try hostile.openStream(
            to: honest.peerID, protocol: Identify.pushProtocolID, handler: recorder)
        stream?.send(Bytes([0x40]))
    }
    simulation.settle(hostile)
    simulation.run(for: .seconds(1))
    #expect(recorders.filter { $0.closed.isEmpty }.count == 2)
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}

@Test func aPushedListOfProtocolsReplacesTheLastOneWithinItsLimit() throws {
    let (simulation, honest, hostile) = pair(answering: "/unused/1", with: [])
    // One after the other, each within the limit of a message: they do not add up.
    for round in 0..<3 {
        let stream = try hostile.openStream(
            to: honest.peerID, protocol: Identify.pushProtocolID, handler: Recorder())
        stream?.send(Bytes(identifyMessage((0..<400).flatMap { protocolField("/p/\(round)/\($0)") })))
        stream?.finish()
        simulation.settle(hostile)
        simulation.run(for: .seconds(1))
    }
    let protocols = try #require(honest.connections.values.first?.connection.remoteProtocols)
    #expect(protocols.count == 400)
    #expect(protocols.allSatisfy { $0.hasPrefix("/p/2/") })
}

@Test func onlyWholePingsAreAnswered() throws {
    let (simulation, honest, hostile) = pair(answering: "/unused/1", with: [])
    let recorder = Recorder()
    let stream = try #require(
        try hostile.openStream(to: honest.peerID, protocol: Ping.protocolID, handler: recorder))
    stream.send(Bytes([UInt8](repeating: 5, count: 33)))
    simulation.settle(hostile)
    simulation.run(for: .seconds(1))
    #expect(recorder.received == [UInt8](repeating: 5, count: 32))
    stream.send(Bytes([UInt8](repeating: 6, count: 31)))
    simulation.settle(hostile)
    simulation.run(for: .seconds(1))
    #expect(recorder.received.count == 64)
}

@Test func pingsWhoseAnswersAreNotReadEndTheirStreamOnly() throws {
    let (simulation, honest, hostile) = pair(answering: "/unused/1", with: [])
    let recorder = Recorder()
    recorder.consumes = false
    let stream = try #require(
        try hostile.openStream(to: honest.peerID, protocol: Ping.protocolID, handler: recorder))
    for _ in 0..<64 {
        stream.send(Bytes([UInt8](repeating: 5, count: 16_384)))
        simulation.settle(hostile)
        simulation.run(for: .milliseconds(10))
    }
    #expect(recorder.closed == [.resetByPeer])
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}

@Test func aPingThatComesBackChangedEndsThePinging() throws {
    let (simulation, honest, hostile) = pair(
        answering: Ping.protocolID, with: [UInt8](repeating: 0, count: 32), finishes: false)
    var failures: [StreamCloseReason] = []
    let dialer = PingDialer(random: RandomSource(seed: 1)) { outcome in
        if case .failure(let reason) = outcome { failures.append(reason) }
    }
    try honest.openStream(to: hostile.peerID, protocol: Ping.protocolID, handler: dialer)
    dialer.ping()
    simulation.settle(honest)
    simulation.run(for: .seconds(1))
    #expect(failures == [.protocolViolation("a ping came back changed")])
    #expect(honest.engine.swarm.connectedPeers == [hostile.peerID])
}
