import Martlet
import MartletCore
import MartletIdentity
import MartletRPC
import MartletSwarm

/// One side of the sessions between two simulated nodes: what `RPCPeer` is to a real node, on the virtual clock.
///
/// The caller has one session at a time and begins another when it is lost; the server keeps what callers began.
final class RPCSimulatedPeer: @unchecked Sendable {
    static let protocolID = "/martlet/rpc/1"

    let node: SimulatedNode
    let role: RPCSession.Role
    private let simulation: Simulation
    private let limits: RPCLimits
    /// The caller's session, and those served.
    private(set) var sessions: [RPCSession] = []
    private var links: [RPCSimulatedLink] = []
    /// Told of everything that the sessions tell.
    var onEvent: ((RPCSession, RPCSessionEvent) -> Void)?

    init(_ node: SimulatedNode, role: RPCSession.Role, simulation: Simulation, limits: RPCLimits) {
        self.node = node
        self.role = role
        self.simulation = simulation
        self.limits = limits
        guard role == .server else {
            begin()
            return
        }
        node.engine.local.protocols.register(
            Self.protocolID,
            .init(streamLimit: 100) { [unowned self] _ in RPCSimulatedLink(self, session: nil, lane: .control) })
    }

    var session: RPCSession { sessions[0] }

    private func begin() {
        sessions = [RPCSession(role: .caller, id: RPCSessionID(random: &simulation.random), limits: limits)]
    }

    // MARK: Links

    /// Gives lanes their streams, as far as there is a connection; asks for one where there is none.
    func connect(to other: SimulatedNode) {
        guard role == .caller else { return }
        for lane in RPCPriority.allCases where session.needsLink(lane) {
            guard node.engine.swarm.connection(to: other.peerID) != nil else { return node.connect(to: other) }
            open(lane, to: other)
        }
        flush()
    }

    /// Gives lanes that are on another connection than the one to use a stream on that. Returns how many.
    func move(to other: SimulatedNode) -> Int {
        let best = node.engine.swarm.connection(to: other.peerID)
        let moving = links.filter { $0.stream?.connection?.id != best }
        for link in moving {
            links.removeAll { $0 === link }
            open(link.lane, to: other)
            link.stream?.reset()
        }
        flush()
        return moving.count
    }

    private func open(_ lane: RPCPriority, to other: SimulatedNode) {
        let link = RPCSimulatedLink(self, session: session, lane: lane)
        links.append(link)
        session.openLink(lane)
        let stream = try? node.openStream(to: other.peerID, protocol: Self.protocolID, handler: link)
        if let stream { link.stream = stream } else { lost(link) }
    }

    func admit(_ hello: RPCHello, _ link: RPCSimulatedLink) -> RPCSession? {
        let known = sessions.first { $0.id == hello.session }
        if known == nil, hello.isResumed { return nil }
        let session = known ?? RPCSession(role: .server, id: hello.session, limits: limits)
        if known == nil { sessions.append(session) }
        guard session.acceptLink(hello) else { return nil }
        let old = links.filter { $0.session === session && $0.lane == hello.lane && $0 !== link }
        links.removeAll { link in old.contains { $0 === link } }
        for link in old { link.stream?.reset() }
        links.append(link)
        return session
    }

    func isCurrent(_ link: RPCSimulatedLink) -> Bool { links.contains { $0 === link } }

    func lost(_ link: RPCSimulatedLink) {
        guard isCurrent(link) else { return }
        links.removeAll { $0 === link }
        link.session?.linkLost(link.lane, now: simulation.now)
    }

    // MARK: Turns

    func tick() {
        for session in sessions { session.handleTimeout(now: simulation.now) }
        flush()
    }

    /// Tells what happened and sends what there is to send, until both are done.
    func flush() {
        var moved = true
        while moved {
            moved = drain()
            for link in links where link.send() { moved = true }
        }
    }

    private func drain() -> Bool {
        var moved = false
        for session in sessions {
            while let event = session.nextEvent() {
                moved = true
                onEvent?(session, event)
                if case .lost = event { ended(session) }
            }
        }
        return moved
    }

    private func ended(_ session: RPCSession) {
        let gone = links.filter { $0.session === session }
        links.removeAll { $0.session === session }
        for link in gone { link.stream?.reset() }
        if role == .caller { begin() } else { sessions.removeAll { $0 === session } }
    }
}

/// One lane's stream in a simulation.
final class RPCSimulatedLink: StreamHandler {
    private unowned let peer: RPCSimulatedPeer
    private(set) var session: RPCSession?
    private(set) var lane: RPCPriority
    var stream: PeerStream?
    private var isOpen = false
    private var hello: [UInt8] = []

    init(_ peer: RPCSimulatedPeer, session: RPCSession?, lane: RPCPriority) {
        self.peer = peer
        self.session = session
        self.lane = lane
    }

    /// True when there was something to send.
    func send() -> Bool {
        guard isOpen, let session, let stream, stream.isOpen else { return false }
        var sent = false
        stream.connection?.advance(to: peer.node.simulation.now)
        while stream.queuedByteCount <= stream.sendHighWater, let bytes = session.nextOutput(lane) {
            stream.send(bytes)
            sent = true
        }
        return sent
    }

    func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        isOpen = true
        peer.flush()
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        var rest = bytes
        if session == nil {
            hello += bytes.array
            let received = hello
            guard let (decoded, size) = try? RPCHello.decode(received.span.bytes) else { return }
            lane = decoded.lane
            guard let admitted = peer.admit(decoded, self) else {
                stream.send(RPCWelcome(status: .unknownSession).encoded)
                return stream.finish()
            }
            session = admitted
            rest = Bytes(Array(hello.dropFirst(size)))
        }
        guard peer.isCurrent(self) else { return }
        session?.receive(rest, on: lane, now: peer.node.simulation.now)
        peer.flush()
    }

    func streamRemoteFinished(_ stream: PeerStream) { stream.reset() }

    func streamWritable(_ stream: PeerStream) { peer.flush() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        self.stream = nil
        peer.lost(self)
        peer.flush()
    }
}
