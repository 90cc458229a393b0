public import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Makes the connections of a node, all from the same identity, settings and budget. Any thread may call it.
public struct ConnectionFactory: Sendable {
    public let local: LocalPeer
    let noiseIdentity: NoiseIdentity
    let configuration: ConnectionConfiguration
    let settings: PeerConnectionSettings
    let budget: WindowBudget

    /// The payload of a frame whose record is one frame of the stream to the relay: it stays whole on its way, so that the other
    /// side can open it where it was received.
    static let relayedFrameLimit = 16 * 1024 - SecureConnection.recordOverhead

    /// A connection that is about to run over a transport just made.
    ///
    /// - Parameter expected: the peer that was dialed; anybody else is refused. Nil takes whoever answers.
    public func makeConnection(
        _ id: ConnectionID, role: ConnectionRole, remoteAddress: Multiaddr, expecting expected: PeerID?,
        random: RandomSource, now: Instant
    ) -> PeerConnection {
        var configuration = configuration
        if remoteAddress.isCircuit { configuration.frameLimit = Self.relayedFrameLimit }
        let muxer = SecureConnection(
            role: role, identity: noiseIdentity, expectedPeer: expected, configuration: configuration, budget: budget,
            random: random, now: now)
        return makeConnection(id, role: role, remoteAddress: remoteAddress, muxer: muxer, now: now)
    }

    /// A connection over a muxer that has its own way to the network.
    func makeConnection(
        _ id: ConnectionID, role: ConnectionRole, remoteAddress: Multiaddr, muxer: any MultiplexedConnection,
        now: Instant
    ) -> PeerConnection {
        PeerConnection(
            id: id, role: role, remoteAddress: remoteAddress, muxer: muxer, sendHighWater: configuration.sendHighWater,
            local: local, settings: settings, now: now)
    }

    /// The same for connections that have nothing to do with the node's own: under a key of their own, and serving identify
    /// alone.
    func underAnotherKey(_ identity: KeyPair, settings: PeerConnectionSettings) -> ConnectionFactory {
        var random = RandomSource.system
        let protocols = ProtocolTable()
        Identify.register(in: protocols)
        let local = LocalPeer(
            identity: identity, network: local.network, agentVersion: local.agentVersion, protocols: protocols,
            sequence: 1)
        return ConnectionFactory(
            local: local, noiseIdentity: NoiseIdentity(identity: identity, random: &random),
            configuration: configuration, settings: settings, budget: budget)
    }
}
