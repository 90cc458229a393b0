import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// A punch under way, with all that it opened. Confined to the home loop.
final class ActivePunch {
    let peer: PeerID
    /// The relayed connection that it is to better.
    let relayed: ConnectionID
    let isDialer: Bool
    let stream: PunchStream
    let timer: LoopTimer
    let sockets: PunchSockets
    /// Nil until this side knows enough about its own NAT.
    var machine: (any PunchMachine)?
    /// When it begins at the latest, knowing or not.
    let startsBy: Instant
    /// What the peer said before that.
    var early: [PunchStream.Event] = []
    /// Connections being made.
    var connections: [ConnectionID] = []
    var tcp: [PunchTCPConnect] = []
    /// Whose TCP connections are the crossing of one in which this side is the client.
    var expectedTCP: [SocketAddress] = []
    var tcpProbe: TCPMappingProbe?
    var isDraining = false
    var isOver = false

    init(
        peer: PeerID, relayed: ConnectionID, isDialer: Bool, stream: PunchStream, timer: LoopTimer,
        sockets: PunchSockets, startsBy: Instant
    ) {
        self.peer = peer
        self.relayed = relayed
        self.isDialer = isDialer
        self.stream = stream
        self.timer = timer
        self.sockets = sockets
        self.startsBy = startsBy
    }
}
