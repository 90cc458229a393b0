public import MartletCore

/// One of this side's UDP sockets.
public enum PunchSocket: Hashable, Sendable {
    /// The one that QUIC listens on, of the IP version of the address that is sent to.
    case main
    /// One opened for the punch.
    case extra(Int)
}

/// What a punch wants done; its owner drains these after every input.
public enum PunchOrder: Hashable, Sendable {
    /// Send over the relayed connection.
    case signal([UInt8])
    case send([UInt8], from: PunchSocket, to: TransportAddress)
    /// Have at least so many extra sockets and answer with `socketsOpened`.
    case openSockets(Int)
    /// Close the extra sockets: what NATs remember of them is of no use any more.
    case closeSockets
    /// Let QUIC accept on an extra socket from now on; the others are of no use any more.
    case acceptQUIC(on: PunchSocket)
    /// Dial over exactly this socket.
    case connectQUIC(from: PunchSocket, to: TransportAddress)
    /// Have somebody on the internet say where the TCP listening port is seen, and answer with `learnedTCP`.
    case learnTCP
    /// From now on take a TCP connection that comes from one of these as the crossing of one of ours, in which this side is
    /// the client: the peer may begin a moment earlier.
    case expectTCP(from: [TransportAddress])
    /// Connect from the listening port, again whenever that fails, until told to stop or the punch is over.
    ///
    /// - Parameter isClient: the role for the protocols on top, which both sides know before they know who was first.
    case connectTCP(to: TransportAddress, isClient: Bool)
    /// Give up what was begun in this attempt and is not connected; extra sockets stay.
    case stopConnecting
    /// The punch is over. Nothing follows.
    case finished(PunchOutcome)
}

/// How a punch ended.
public enum PunchOutcome: Hashable, Sendable {
    case connected(Multiaddr)
    case failed(String)
}

/// One side of one punch. Sans-I/O: the owner feeds it, drains `nextOrder()`, and wakes it at `deadline`.
public protocol PunchMachine: AnyObject {
    func start(now: Instant)
    /// Bytes of the stream over the relayed connection.
    func signalled(_ bytes: Bytes, now: Instant)
    /// That stream is over.
    func signallingEnded(_ reason: String, now: Instant)
    /// So many extra sockets are open now, perhaps fewer than wanted.
    func socketsOpened(_ count: Int, now: Instant)
    /// Where the TCP listening port is likely to be reached; empty when nobody could tell.
    func learnedTCP(_ addresses: [TransportAddress], now: Instant)
    func received(_ packet: [UInt8], from: TransportAddress, on socket: PunchSocket, now: Instant)
    /// There is a connection to the peer that is not relayed.
    func connected(at address: Multiaddr, now: Instant)
    func handleTimeout(now: Instant)
    var deadline: Instant? { get }
    func nextOrder() -> PunchOrder?
    /// What happened so far.
    var report: PunchReport { get }
    /// Names the punch in its probes; nil when it has none.
    var session: UInt64? { get }
}
