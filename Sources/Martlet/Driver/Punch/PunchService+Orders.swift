import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

extension PunchService {
    /// Carries out what a punch wants. Called after everything that it is told.
    func drain(_ punch: ActivePunch) {
        guard !punch.isDraining, let machine = punch.machine else { return }
        punch.isDraining = true
        defer { punch.isDraining = false }
        var packets: [(bytes: [UInt8], to: TransportAddress)] = []
        while !punch.isOver, let order = machine.nextOrder() {
            switch order {
            case .send(let bytes, .main, let address):
                let isGuess = !machine.report.remoteAddresses.contains(address.quicMultiaddr)
                if rate.admits(address.ip, isGuess: isGuess, now: home.now) { packets.append((bytes, address)) }
                continue
            case .send(let bytes, .extra(let index), let address):
                guard rate.admits(address.ip, isGuess: true, now: home.now) else { continue }
                punch.sockets.send(bytes, from: index, to: SocketAddress(address.ip, port: address.port))
                continue
            case .signal, .openSockets, .closeSockets, .acceptQUIC, .connectQUIC, .learnTCP, .expectTCP, .connectTCP,
                .stopConnecting, .finished:
                break
            }
            // In the order in which they were wanted.
            send(packets)
            packets = []
            carryOut(order, punch)
        }
        send(packets)
        if let deadline = machine.deadline, !punch.isOver { punch.timer.schedule(at: deadline) }
    }

    private func carryOut(_ order: PunchOrder, _ punch: ActivePunch) {
        switch order {
        case .signal(let bytes): punch.stream.send(bytes)
        case .send: break
        case .openSockets(let count):
            punch.machine?.socketsOpened(punch.sockets.open(count, on: extraAddress), now: home.now)
        case .closeSockets: punch.sockets.close()
        case .acceptQUIC(let socket):
            _ = adopt(socket, punch, accepts: true)
            punch.sockets.closeUnused()
        case .connectQUIC(let socket, let address): connectQUIC(from: socket, to: address, punch)
        case .learnTCP: learnTCP(punch)
        case .expectTCP(let addresses):
            punch.expectedTCP = addresses.map { SocketAddress($0.ip, port: $0.port) }
        case .connectTCP(let address, let isClient): connectTCP(to: address, isClient: isClient, punch)
        case .stopConnecting: stopConnecting(punch)
        case .finished(let outcome): finished(punch, outcome)
        }
    }

    // MARK: UDP

    /// The socket that QUIC listens at and that reaches `ip`.
    func mainSocket(for ip: IPAddress) -> QUICSocket? {
        let isIP4 = if case .v4 = ip { true } else { false }
        return driver.quicSockets.first {
            $0.isListening && $0.address.isIP4 == isIP4
                && ($0.address.isUnspecified || $0.address.isLoopback == (ip.scope == .loopback))
        }
    }

    /// Where extra sockets are bound: as the main IPv4 socket is.
    private var extraAddress: IPAddress {
        driver.quicSockets.first { $0.isListening && $0.address.isIP4 }?.address.ipAddress ?? .v4(.any)
    }

    func send(_ packets: [(bytes: [UInt8], to: TransportAddress)]) {
        guard !packets.isEmpty else { return }
        for isIP4 in [true, false] {
            let these = packets.filter { $0.to.isIPv4 == isIP4 }
            guard let first = these.first, let socket = mainSocket(for: first.to.ip) else { continue }
            for host in Set(these.map(\.to.ip)) {
                driver.reachability.noteContact(with: SocketAddress(host, port: 0), from: socket.address.quicMultiaddr)
            }
            let orders = these.map { ($0.bytes, SocketAddress($0.to.ip, port: $0.to.port)) }
            socket.loop.execute {
                for (bytes, address) in orders { socket.send(packet: bytes, to: address) }
            }
        }
    }

    private func adopt(_ socket: PunchSocket, _ punch: ActivePunch, accepts: Bool) -> QUICSocket? {
        guard case .extra(let index) = socket, let quic = driver.quic else { return nil }
        return punch.sockets.adopt(index) { bound in
            driver.runQUIC(over: bound, on: home, isListening: false, accepts: accepts, quic)
        }
    }

    private func connectQUIC(from socket: PunchSocket, to address: TransportAddress, _ punch: ActivePunch) {
        let found = socket == .main ? mainSocket(for: address.ip) : adopt(socket, punch, accepts: false)
        let multiaddr = address.quicMultiaddr
        guard let found, let remote = SocketAddress(address.ip, port: address.port).quicAddress,
            let id = try? driver.engine.swarm.punching(to: multiaddr, now: home.now)
        else { return }
        punch.connections.append(id)
        let peer = punch.peer
        found.loop.execute { [driver] in
            do {
                let connection = try found.connect(to: remote, expecting: peer)
                driver.run(id, .dialer, multiaddr, connection, found)
            } catch {
                driver.toHome { $0.failed(id, "\(error)") }
            }
        }
    }

    // MARK: TCP

    /// Asks the first peer on the internet that listens by TCP too where it sees this node's TCP port. When nobody can tell,
    /// it is likely the port itself at the address at which UDP is seen: most NATs keep ports.
    private func learnTCP(_ punch: ActivePunch) {
        let guessed = guessedTCP()
        let finish = { [weak self, weak punch] (found: TransportAddress?) in
            guard let self, let punch, !punch.isOver else { return }
            punch.machine?.learnedTCP((found ?? guessed).map { [$0] } ?? [], now: home.now)
            drain(punch)
        }
        guard let server = tcpServers.first?.address,
            let local = driver.listeningAddress(for: SocketAddress(server.ip, port: server.port))
        else { return finish(nil) }
        driver.reachability.noteContact(
            with: SocketAddress(server.ip, port: server.port), from: local.multiaddr)
        let probe = TCPMappingProbe(
            loop: home, factory: driver.factory, counters: driver.counters, onEnd: finish)
        punch.tcpProbe = probe
        probe.start(server, from: local)
    }

    private func guessedTCP() -> TransportAddress? {
        guard let ip = description().publicIPv4?.ip,
            let listener = driver.listeners.first(where: { $0.boundAddress.isIP4 && !$0.boundAddress.isLoopback })
        else { return nil }
        return TransportAddress(ip, port: listener.boundAddress.port)
    }

    private func connectTCP(to address: TransportAddress, isClient: Bool, _ punch: ActivePunch) {
        let remote = SocketAddress(address.ip, port: address.port)
        guard let local = driver.listeningAddress(for: remote) else { return }
        driver.giveUpDials(of: remote)
        driver.reachability.noteContact(with: remote, from: local.multiaddr)
        let peer = punch.peer
        let connect = PunchTCPConnect(loop: driver.loops.next(), from: local, to: remote) { [weak driver] socket in
            guard let driver else { return socket.close() }
            // Used on its loop alone; the home loop only passes it on.
            nonisolated(unsafe) let socket = socket
            driver.toHome { $0.punchedTCP(socket, isClient: isClient, expecting: peer) }
        }
        punch.tcp.append(connect)
        connect.start()
    }

    /// Whether the connection that came from there is the crossing of one of ours, in which this side is the client.
    func crossingPeer(at address: SocketAddress) -> PeerID? {
        for peer in active.keys.sorted() {
            if active[peer]?.expectedTCP.contains(address) == true { return peer }
        }
        return nil
    }

    // MARK: Ending

    func stopConnecting(_ punch: ActivePunch) {
        for connect in punch.tcp { connect.cancel() }
        punch.tcp = []
        punch.expectedTCP = []
        for id in punch.connections { driver.engine.swarm.abandon(id, "the punch is over") }
        punch.connections = []
        driver.drain()
    }
}
