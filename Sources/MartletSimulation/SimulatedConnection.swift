import Martlet
import MartletCore
import MartletIdentity
public import MartletSwarm

/// One end of a simulated connection: the production connection, and the virtual wire to the other end.
public final class SimulatedConnection: PeerConnectionOwner {
    public let connection: PeerConnection
    unowned let node: SimulatedNode
    /// The other end, until it is closed.
    var other: SimulatedConnection?
    /// When bytes sent last will arrive: later ones come no earlier.
    var arrival: Instant
    let latency: Duration
    /// The timer event that is planned, so that a later deadline needs no new one.
    var timerAt: Instant?
    var isDirty = false
    var isClosed = false

    init(connection: PeerConnection, node: SimulatedNode, latency: Duration, now: Instant) {
        self.connection = connection
        self.node = node
        self.latency = latency
        arrival = now
        connection.owner = self
    }

    public func connectionNeedsService(_ connection: PeerConnection) {
        node.simulation.markDirty(self)
    }
}

/// A dial on its way through the network.
struct SimulatedDial {
    let node: SimulatedNode
    let connection: ConnectionID
    let address: Multiaddr
    let expecting: PeerID?
    let latency: Duration
}
