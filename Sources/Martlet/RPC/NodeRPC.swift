import MartletCore
import MartletIdentity
public import MartletRPC
import MartletRuntime
import MartletSwarm
import Synchronization

/// A node's calls: the services that it offers, and the sessions with its peers.
///
///     node.rpc.register("Model") { service in
///         service.unary("forward") { request, context in try await model.forward(request) }
///     }
public final class NodeRPC: Sendable {
    static let protocolID = "/martlet/rpc/1"

    /// What is offered to peers.
    public let services = RPCServiceRegistry()
    public let limits: RPCLimits
    let home: EventLoop
    private let driver: NodeDriver
    private let pools: [ObjectIdentifier: RPCWorkers]

    private struct SessionKey: Hashable {
        let peer: PeerID
        let id: RPCSessionID
    }

    private struct State {
        var callers: [PeerID: RPCPeer] = [:] {
            didSet { latest = nil }
        }
        /// Whom the last call went through: found without hashing.
        var latest: RPCPeer?
        var served: [SessionKey: RPCPeer] = [:]
        /// The sessions of each peer in the order of their beginning.
        var servedByPeer: [PeerID: [RPCSessionID]] = [:]
        var isStopped = false
    }

    private let state = Mutex(State())

    init(driver: NodeDriver, limits: RPCLimits) {
        self.driver = driver
        self.limits = limits
        home = driver.home
        var pools: [ObjectIdentifier: RPCWorkers] = [:]
        for loop in driver.loops.loops { pools[ObjectIdentifier(loop)] = RPCWorkers(loop: loop) }
        self.pools = pools
        registerBuiltIns()
        driver.pathWatchers.add { [weak self] in self?.pathChanged($0, $1) }
    }

    /// Offers a service from now on; see `RPCService`.
    public func register(_ name: String, _ build: (inout RPCService) -> Void) { services.register(name, build) }

    /// Offers the service no longer.
    public func unregister(_ name: String) { services.unregister(name) }

    /// Tells peers that nothing new is taken; calls under way go on. For a node that is about to stop.
    public func drain() {
        for session in state.withLock({ Array($0.served.values) }) { session.drain() }
    }

    // MARK: Inside

    /// Begins to serve the protocol.
    func serve(in protocols: ProtocolTable) {
        protocols.register(
            Self.protocolID,
            .init(streamLimit: 3 * limits.sessionsPerPeer) { [self] connection in
                guard let driver = connection.owner as? ConnectionDriver, let peer = connection.remote?.peerID else {
                    preconditionFailure("a stream came in on a connection without driver or peer")
                }
                return RPCLink(accepting: peer, on: driver.loop, rpc: self)
            })
    }

    func workers(of loop: EventLoop) -> RPCWorkers {
        guard let pool = pools[ObjectIdentifier(loop)] else { preconditionFailure("a loop of another node") }
        return pool
    }

    func connection(to peer: PeerID) async throws -> ConnectionDriver { try await driver.connectionDriver(for: peer) }

    /// Another connection to a peer is the one to use: calls under way go over to it.
    private func pathChanged(_ peer: PeerID, _ connection: ConnectionDriver) {
        state.withLock { $0.callers[peer] }?.pathChanged(to: connection)
    }

    /// Whom to call `peer` through.
    func caller(for peer: PeerID) throws(RPCError) -> RPCPeer {
        let found: RPCPeer? = state.withLock { state in
            if let latest = state.latest, latest.peer == peer { return latest }
            if let caller = state.callers[peer] {
                state.latest = caller
                return caller
            }
            guard !state.isStopped else { return nil }
            var random = RandomSource.system
            let caller = RPCPeer(peer: peer, role: .caller, id: RPCSessionID(random: &random), rpc: self)
            state.callers[peer] = caller
            return caller
        }
        guard let found else { throw RPCError(.unavailable, "the node was stopped", outcome: .notSent) }
        return found
    }

    /// The session that a hello names, begun when it is new.
    func admit(_ hello: RPCHello, from peer: PeerID) -> Result<RPCPeer, RPCAdmissionRefusal> {
        let key = SessionKey(peer: peer, id: hello.session)
        let (result, evicted) = state.withLock { state -> (Result<RPCPeer, RPCAdmissionRefusal>, RPCPeer?) in
            if state.isStopped { return (.failure(.init(status: .stopping)), nil) }
            if let session = state.served[key] { return (.success(session), nil) }
            if hello.isResumed { return (.failure(.init(status: .unknownSession)), nil) }
            var evicted: RPCPeer?
            let others = state.servedByPeer[peer] ?? []
            if others.count >= limits.sessionsPerPeer || state.served.count >= limits.sessions {
                // One that was cut off and has nothing to do makes room.
                let idle = others.first { id in
                    state.served[SessionKey(peer: peer, id: id)].map { $0.isCutOff && !$0.hasCalls } ?? true
                }
                guard let idle else { return (.failure(.init(status: .tooManySessions)), nil) }
                evicted = state.served.removeValue(forKey: SessionKey(peer: peer, id: idle))
                state.servedByPeer[peer]?.removeAll { $0 == idle }
            }
            let session = RPCPeer(peer: peer, role: .server, id: hello.session, rpc: self)
            state.served[key] = session
            state.servedByPeer[peer, default: []].append(hello.session)
            return (.success(session), evicted)
        }
        evicted?.stop()
        return result
    }

    /// A session is over.
    func forget(_ session: RPCPeer) {
        guard session.role == .server else {
            return state.withLock { state in
                if state.callers[session.peer] === session { state.callers[session.peer] = nil }
            }
        }
        let id = session.withLock { session.session.id }
        state.withLock { state in
            guard state.served[SessionKey(peer: session.peer, id: id)] === session else { return }
            state.served[SessionKey(peer: session.peer, id: id)] = nil
            state.servedByPeer[session.peer]?.removeAll { $0 == id }
            if state.servedByPeer[session.peer]?.isEmpty == true { state.servedByPeer[session.peer] = nil }
        }
    }

    /// Streams that calls hold open, both ways.
    var linkCount: Int {
        state.withLock { Array($0.callers.values) + Array($0.served.values) }.reduce(0) { $0 + $1.linkCount }
    }

    /// Ends every session; every call is told.
    func stop() {
        let (callers, served) = state.withLock { state in
            state.isStopped = true
            defer {
                state.callers = [:]
                state.served = [:]
                state.servedByPeer = [:]
            }
            return (Array(state.callers.values), Array(state.served.values))
        }
        for session in callers { session.stop() }
        for session in served { session.stop() }
        for pool in pools.values { pool.stop() }
        // The table would keep this, and with it the node's driver, which has the table.
        driver.engine.local.protocols.unregister(Self.protocolID)
    }

    // MARK: Built in

    /// The service that tells what others there are.
    static let listPath = "martlet.Services.list"

    private func registerBuiltIns() {
        let services = services
        services.register("martlet.Services") { service in
            service.unary("list") { [weak services] _, _ in
                let lines = services?.methods.map { "\($0.path) \($0.kind.rawValue)" } ?? []
                return RPCMessage(utf8: lines.joined(separator: "\n"))
            }
        }
    }
}
