public import Martlet
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// A production engine in a simulated network.
public final class SimulatedNode {
    public let index: Int
    public let engine: NodeEngine
    public let address: Multiaddr
    public var peerID: PeerID { engine.local.peerID }
    /// Live connections by id.
    public internal(set) var connections: [ConnectionID: SimulatedConnection] = [:]
    unowned let simulation: Simulation
    var timerAt: Instant?
    var isDown = false
    /// Told of everything that happens to this node's peers.
    public var onEvent: ((SwarmEvent) -> Void)?

    init(index: Int, engine: NodeEngine, address: Multiaddr, simulation: Simulation) {
        self.index = index
        self.engine = engine
        self.address = address
        self.simulation = simulation
    }

    /// The address with the peer id, for others to dial.
    public var fullAddress: Multiaddr { (try? address.encapsulating(peer: peerID)) ?? address }

    /// Asks the engine to connect; its events tell the outcome.
    public func connect(to other: SimulatedNode) {
        simulation.lastRequest += 1
        engine.swarm.connect(
            RequestID(rawValue: simulation.lastRequest), to: other.peerID, at: [other.address], now: simulation.now)
        simulation.drain(self)
    }

    /// Makes another connection to a node, whether there is one already or not.
    package func connectAgain(to other: SimulatedNode) {
        simulation.lastRequest += 1
        engine.swarm.connect(
            RequestID(rawValue: simulation.lastRequest), to: nil, at: [other.address], now: simulation.now)
        simulation.drain(self)
    }

    /// Closes the connection to use for a node, and no other.
    package func closeConnection(to other: SimulatedNode) {
        guard let id = engine.swarm.connection(to: other.peerID), let end = connections[id] else { return }
        end.connection.close(now: simulation.now)
        simulation.settle(self)
    }

    /// Opens a stream to a connected peer.
    @discardableResult
    public func openStream(to peer: PeerID, protocol protocolID: String, handler: any StreamHandler) throws
        -> PeerStream?
    {
        guard let id = engine.swarm.connection(to: peer), let end = connections[id] else { return nil }
        end.connection.advance(to: simulation.now)
        return try end.connection.openStream([protocolID], handler: handler)
    }
}
