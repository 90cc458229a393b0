import CoreMetrics
import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC
import MartletReachability
import MartletRuntime
import MartletSwarm

extension NodeDriver {
    // MARK: Listening

    /// Begins to accept QUIC connections; returns the address with the port really bound.
    func listenWithQUIC(at address: Multiaddr) async throws -> Multiaddr {
        guard let quic else { throw MartletError(.invalidArgument, "cannot listen at \(address): QUIC is turned off") }
        guard let socketAddress = SocketAddress(address) else {
            throw MartletError(.invalidArgument, "cannot listen at \(address): not an address that sockets know")
        }
        let socket = try await makeListeners(socketAddress, quic)
        try await onHome { $0.quicSockets.append(socket) }
        guard let bound = socket.address.quicMultiaddr else {
            throw MartletError(.internalError, "the bound address \(socket.address) has no multiaddr")
        }
        return bound
    }

    /// Opens a socket on each loop; returns the first.
    private func makeListeners(_ address: SocketAddress, _ quic: QUICSettings) async throws -> QUICSocket {
        let bound = try QUICSocket.bindGroup(of: loops.loops.count, at: address)
        let group = bound.count > 1 ? QUICSocketGroup(count: bound.count) : nil
        var members: [QUICSocket] = []
        do {
            for (index, (bound, loop)) in zip(bound, loops.inTurn()).enumerated() {
                let socket = try await loop.perform { [self] in try makeListener(loop, bound, group, index, quic) }
                members.append(socket)
            }
        } catch {
            for socket in members { socket.loop.execute { socket.closeWhenIdle() } }
            throw error
        }
        return members[0]
    }

    private func makeListener(
        _ loop: EventLoop, _ bound: BoundDatagramSocket, _ group: QUICSocketGroup?, _ index: Int, _ quic: QUICSettings
    ) throws(SocketError) -> QUICSocket {
        let socket = runQUIC(
            over: try DatagramSocket(loop: loop, over: bound), on: loop, isListening: true, in: group, index: index,
            accepts: true, quic)
        if index == 0 { socket.stun = STUNSockets(beside: socket.address.ipAddress, loop: loop) }
        return socket
    }

    /// - Parameter isListening: whether the socket is one that the node listens at, which it may announce.
    func runQUIC(
        over bound: DatagramSocket, on loop: EventLoop, isListening: Bool, in group: QUICSocketGroup? = nil,
        index: Int = 0, accepts: Bool, _ quic: QUICSettings
    ) -> QUICSocket {
        QUICSocket(
            loop: loop, over: bound, isListening: isListening, in: group, index: index, settings: quic,
            counters: counters
        ) { [weak self] socket, connection in
            guard let self, accepts else { return socket.refuse(connection) }
            accepted(connection, socket)
        } packet: { [weak self] socket, bytes, address in
            self?.toHome { $0.punches?.received(bytes, from: address, on: socket) }
        }
    }

    /// A dialer for each loop; they open their sockets when they are first used.
    static func makeDialers(
        _ loops: EventLoopGroup, _ quic: QUICSettings?, _ counters: NodeCounters
    ) -> [QUICDialer] {
        guard let quic else { return [] }
        return loops.loops.map { loop in
            QUICDialer(loop: loop) { (loop, address) throws(SocketError) in
                try QUICSocket.dialing(loop: loop, at: address, settings: quic, counters: counters)
            }
        }
    }

    /// Asks the swarm, which lives on the home loop, whether it wants the connection.
    private func accepted(_ connection: QUICConnection, _ socket: QUICSocket) {
        guard let address = SocketAddress(connection.remoteAddress).quicMultiaddr else {
            return socket.refuse(connection)
        }
        // Used on the socket's loop alone; the home loop only passes it on.
        nonisolated(unsafe) let connection = connection
        toHome { driver in
            let id = try? driver.isStopped ? nil : driver.engine.swarm.accepted(from: address, now: driver.home.now)
            if id == nil { driver.countRefused(address) }
            let begin: @Sendable () -> Void = {
                guard let id else { return socket.refuse(connection) }
                driver.run(id, .listener, address, connection, socket)
            }
            if socket.loop.inLoop { begin() } else { socket.loop.execute(begin) }
        }
    }

    // MARK: Dialing

    func dialWithQUIC(_ id: ConnectionID, _ address: Multiaddr, _ target: SocketAddress, _ expecting: PeerID?) {
        guard !quicDialers.isEmpty, let remote = target.quicAddress else { return failed(id, "QUIC is turned off") }
        // One that listens, if it can reach the target, so that NATs see one port for both directions.
        let listening = quicSockets.first { socket in
            guard socket.address.isIP4 == target.isIP4 else { return false }
            return socket.address.isUnspecified || socket.address.isLoopback == target.isLoopback
        }
        reachability.noteContact(with: target, from: listening?.address.quicMultiaddr)
        let dialer = quicDialers[nextQUICDialer % quicDialers.count]
        if listening == nil { nextQUICDialer += 1 }
        let member = listening?.group?.next() ?? listening
        (member?.loop ?? dialer.loop).execute { [self] in
            do {
                let socket = try member ?? dialer.socket(for: target)
                let connection = try socket.connect(to: remote, expecting: expecting)
                run(id, .dialer, address, connection, socket)
            } catch {
                toHome { $0.failed(id, "\(error)") }
            }
        }
    }

    // MARK: Connections

    /// Starts a connection, on its socket's loop.
    func run(
        _ id: ConnectionID, _ role: ConnectionRole, _ address: Multiaddr, _ muxer: QUICConnection, _ socket: QUICSocket
    ) {
        let connection = factory.makeConnection(
            id, role: role, remoteAddress: address, muxer: muxer, now: socket.loop.now)
        let driver = QUICConnectionDriver(connection: connection, muxer: muxer, socket: socket, counters: counters) {
            [weak self] id, event in
            self?.toHome { $0.reported(id, event) }
        }
        toHome { $0.started(driver) }
        driver.start()
    }

    private func countRefused(_ address: Multiaddr) {
        counters.connectionsRefused.increment()
        logger.debug("refused a QUIC connection", metadata: ["from": "\(address)"])
    }
}
