import MartletCore
import MartletIdentity
import MartletRPC
import MartletRuntime
import MartletSwarm

/// How a lane's stream ended, as far as it matters to calls.
enum RPCLinkEnd {
    /// The peer does not speak the protocol.
    case notSpoken
    case violation(String)
    /// The stream alone ended.
    case ended
    /// The connection ended.
    case connectionLost

    init(_ reason: StreamCloseReason) {
        self =
            switch reason {
            case .protocolNotSupported: .notSpoken
            case .protocolViolation(let what): .violation(what)
            case .finished, .resetByPeer, .resetLocally: .ended
            case .negotiationTimedOut, .connectionClosed: .connectionLost
            }
    }
}

/// One lane's stream, on the loop of its connection. The session's lock is taken once for everything that came in a turn,
/// and once for everything that is to be sent.
final class RPCLink: LoopWork, StreamHandler, @unchecked Sendable {
    /// A hello takes less.
    private static let helloLimit = 64

    let loop: EventLoop
    /// For a link that this side opened: the connection that it is on.
    private(set) weak var connection: ConnectionDriver?
    let workers: RPCWorkers
    /// Known from the start to who opened the stream, and after the hello to who accepted it.
    @exclusivity(unchecked) private(set) var lane: RPCPriority
    @exclusivity(unchecked) private var peer: RPCPeer?
    /// For a stream that came in: who looks the session up, and for whom.
    private let admission: (rpc: NodeRPC, peer: PeerID)?

    // Confined to the loop, whose turns do not overlap: the run-time check for that is spared.
    @exclusivity(unchecked) private var stream: PeerStream?
    /// Whether bytes may be sent, perhaps before the peer has agreed on the protocol.
    @exclusivity(unchecked) private(set) var isOpen = false
    /// When something came for the first time, so that the peer speaks the protocol.
    @exclusivity(unchecked) private(set) var heardAt: Instant?
    private var isClosed = false
    private var hello: [UInt8] = []
    @exclusivity(unchecked) private var effects = RPCPeer.Effects()

    /// A link that the caller opens.
    init(connection: ConnectionDriver, lane: RPCPriority, peer: RPCPeer, workers: RPCWorkers) {
        loop = connection.loop
        self.connection = connection
        self.lane = lane
        self.peer = peer
        self.workers = workers
        admission = nil
    }

    /// A link of a stream that a peer opened.
    init(accepting peerID: PeerID, on loop: EventLoop, rpc: NodeRPC) {
        self.loop = loop
        lane = .control
        workers = rpc.workers(of: loop)
        admission = (rpc, peerID)
    }

    func attach(_ stream: PeerStream) {
        self.stream = stream
        if isClosed { stream.reset() }
    }

    // MARK: Sending

    /// Carries to the stream what has gathered since the last time.
    override func run() {
        guard isOpen, let peer, let connection = stream?.connection else { return }
        connection.advance(to: loop.now)
        peer.flush(self, &effects)
    }

    /// Hands the session's output to the stream as far as that takes it. Called by the session's owner, under its lock.
    func send(from session: RPCSession) {
        guard isOpen, let stream else { return }
        while stream.queuedByteCount <= stream.sendHighWater, let bytes = session.nextOutput(lane) {
            stream.send(bytes)
        }
    }

    /// Ends the stream, from any thread.
    func close() {
        loop.execute { [self] in
            isClosed = true
            stream?.reset()
        }
    }

    // MARK: The stream

    func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        isOpen = true
        if admission != nil, peer == nil { return stream.startDeadline() }
        stream.setPriority(lane.streamPriority)
        // Not from inside the opening itself, which may hold nothing but is simpler to reason about from outside.
        loop.schedule(self)
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        // Windows of calls bound what is kept, so the stream's own need not.
        stream.consumed(bytes.count)
        if heardAt == nil { heardAt = loop.now }
        if let peer {
            peer.received(bytes, on: self, &effects)
        } else {
            receiveHello(bytes, stream)
        }
    }

    private func receiveHello(_ bytes: Bytes, _ stream: PeerStream) {
        guard let admission else { return }
        let before = hello.count
        hello.append(contentsOf: bytes.prefix(Self.helloLimit).array)
        do {
            let received = hello
            guard let (decoded, size) = try RPCHello.decode(received.span.bytes) else {
                if hello.count >= Self.helloLimit { stream.fail("a hello without end") }
                return
            }
            hello = []
            lane = decoded.lane
            stream.clearDeadline()
            stream.setPriority(lane.streamPriority)
            switch admission.rpc.admit(decoded, from: admission.peer) {
            case .success(let session):
                peer = session
                guard session.accept(self, decoded) else { return stream.fail("a hello that cannot be") }
                let rest = bytes.dropFirst(max(0, size - before))
                if !rest.isEmpty { session.received(rest, on: self, &effects) }
            case .failure(let refusal):
                stream.send(RPCWelcome(status: refusal.status).encoded)
                stream.finish()
            }
        } catch {
            stream.fail("\(error)")
        }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        // Neither side finishes a lane that is in use.
        stream.reset()
    }

    func streamWritable(_ stream: PeerStream) {
        peer?.flush(self, &effects)
    }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        isOpen = false
        isClosed = true
        self.stream = nil
        peer?.lost(self, RPCLinkEnd(reason))
    }
}

/// Why a session is not begun, as the welcome says it.
struct RPCAdmissionRefusal: Error {
    let status: RPCWelcome.Status
}

extension RPCPriority {
    var streamPriority: StreamPriority {
        switch self {
        case .control: .control
        case .activation: .normal
        case .bulk: .bulk
        }
    }
}
