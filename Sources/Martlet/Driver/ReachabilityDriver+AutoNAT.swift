import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// AutoNAT on both sides: what is asked about, of whom, and dialing for others.
extension ReachabilityDriver {
    /// Places that peers see one socket at and that are asked about.
    private static let observedPerListener = 2

    func update() {
        guard settings.asksPeers else { return }
        discoverer.look()
        client.update(candidates, servers: servers, now: node.home.now)
        drain()
    }

    private var candidates: [AutoNATClient.Candidate] {
        var found: [AutoNATClient.Candidate] = []
        for listener in node.boundListeners {
            found += (mapper.mappings + pinholes.mappings).compactMap { address(of: $0, at: listener) }
                .map { .init(address: $0, listener: listener, origin: .mapped) }
            let observed = node.engine.observed.candidates(of: listener).prefix(Self.observedPerListener)
            found += observed.map { .init(address: $0.address, listener: listener, origin: .observed) }
            found += ListenAddresses.expanded(listener).map {
                .init(address: $0, listener: listener, origin: .listening)
            }
        }
        return found + forwarded(beside: found)
    }

    /// For each host that peers see: our own ports there. People forward ports by hand, mostly to the same number.
    private func forwarded(beside found: [AutoNATClient.Candidate]) -> [AutoNATClient.Candidate] {
        var hosts: [IPAddress] = []
        for candidate in found where candidate.origin == .observed {
            guard let host = candidate.address.ipAddress, !hosts.contains(host) else { continue }
            hosts.append(host)
        }
        return node.boundListeners.flatMap { listener in
            hosts.compactMap { host -> AutoNATClient.Candidate? in
                guard let address = listener.replacingIP(host), !found.contains(where: { $0.address == address })
                else { return nil }
                return .init(address: address, listener: listener, origin: .forwarded)
            }
        }
    }

    /// Peers that can be asked to dial this node.
    var servers: [AutoNATClient.Server] {
        let connections = node.engine.swarm.connectionInfos
        return connections.compactMap { info in
            guard info.protocols.contains(AutoNAT.dialRequestProtocolID), info.path != .relayed,
                info.id == node.engine.swarm.connection(to: info.peer)
            else { return nil }
            return AutoNATClient.Server(
                peer: info.peer, connection: info.id, address: info.remoteAddress,
                warmListeners: warmListeners(for: info.remoteAddress, besides: nil, connections))
        }
    }

    /// The listening sockets that have sent something to the host at `address`.
    private func warmListeners(
        for address: Multiaddr, besides excluded: ConnectionID?, _ connections: [ConnectionInfo]
    ) -> [Multiaddr] {
        let connected = connections.filter { $0.id != excluded && $0.remoteAddress.ipAddress == address.ipAddress }
            .compactMap { node.driver(of: $0.id)?.listener }
        guard let host = address.ipAddress else { return connected }
        return connected + node.boundListeners.filter { contacted.contains(host, from: $0, now: node.home.now) }
    }

    func drain() {
        while let order = client.nextOrder() { carryOut(order) }
        if let deadline = client.deadline, !node.isStopped {
            advanceTimer.schedule(at: deadline)
        } else {
            advanceTimer.cancel()
        }
        announce()
    }

    private func carryOut(_ order: AutoNATClient.Order) {
        switch order {
        case .ask(let connection, let address, let nonce): ask(connection, address, nonce)
        case .cancel(let connection, let nonce):
            guard let handler = probes.removeValue(forKey: nonce), let driver = node.driver(of: connection) else {
                return
            }
            // Used on the connection's loop alone.
            nonisolated(unsafe) let probe = handler
            driver.loop.execute { probe.cancel() }
        }
    }

    private func ask(_ connection: ConnectionID, _ address: Multiaddr, _ nonce: UInt64) {
        let handler = AutoNATProbeHandler(address: address, nonce: nonce) { [weak self] answer in
            guard let self else { return }
            node.toHome { _ in self.answered(nonce, answer) }
        }
        guard let driver = node.driver(of: connection) else {
            return answered(nonce, .failure(.connectionClosed("it is gone")))
        }
        node.logger.debug("asking whether an address is reached", metadata: ["address": "\(address)"])
        probes[nonce] = handler
        nonisolated(unsafe) let probe = handler
        driver.loop.execute { [weak self] in
            do {
                _ = try driver.openStream([AutoNAT.dialRequestProtocolID], handler: probe)
            } catch {
                guard let self else { return }
                node.toHome { _ in self.answered(nonce, .failure(.connectionClosed("\(error)"))) }
            }
        }
    }

    /// Asks a server to dial an address that is none of a listening socket.
    func ask(
        _ connection: ConnectionID, toDial address: Multiaddr,
        _ answered: @escaping (Result<AutoNATResponse, StreamCloseReason>) -> Void
    ) {
        let nonce = random.next()
        otherQuestions[nonce] = answered
        ask(connection, address, nonce)
    }

    private func answered(_ nonce: UInt64, _ answer: Result<AutoNATResponse, StreamCloseReason>) {
        probes[nonce] = nil
        if let body = otherQuestions.removeValue(forKey: nonce) { return body(answer) }
        node.logger.debug("answer about an address", metadata: ["answer": "\(answer)"])
        client.answered(nonce, answer, now: node.home.now)
        drain()
    }

    private func receiver(on connection: PeerConnection) -> DialBackReceiver {
        let driver = connection.owner as? ConnectionDriver
        let address = connection.remoteAddress
        return DialBackReceiver { [weak self] nonce, completed in
            guard let self, let driver else { return completed(false) }
            nonisolated(unsafe) let completed = completed
            node.toHome { node in
                let warm = self.warmListeners(
                    for: address, besides: driver.id, node.engine.swarm.connectionInfos)
                let isExpected = self.client.nonceArrived(
                    nonce, at: driver.listener, isWarm: driver.listener.map(warm.contains) ?? false)
                driver.loop.execute { completed(isExpected) }
            }
        }
    }

    // MARK: Serving

    func receiveDialBacks(in protocols: ProtocolTable) {
        protocols.register(
            AutoNAT.dialBackProtocolID,
            .init(streamLimit: 2) { [weak self] connection in self?.receiver(on: connection) ?? DialBackReceiver.deaf })
    }

    func serve(in protocols: ProtocolTable) {
        var configuration = settings.server
        configuration.allowsPrivateAddresses = settings.allowsPrivateAddresses
        let speaksQUIC = node.quic != nil
        let server = AutoNATServer(configuration: configuration, random: .system) { address in
            guard address.isDialableStream || (speaksQUIC && address.isDialableQUIC) else { return false }
            return NetworkInterfaces.canReach(address)
        }
        protocols.register(
            AutoNAT.dialRequestProtocolID,
            .init(streamLimit: AutoNAT.streamLimit) { [weak self] connection in
                let loop = (connection.owner as? ConnectionDriver)?.loop
                return AutoNATRequestHandler(server: server) { request, completed in
                    guard let self, let loop else { return completed(.notReached) }
                    nonisolated(unsafe) let completed = completed
                    self.node.toHome { node in
                        node.logger.debug(
                            "dialing back",
                            metadata: ["address": "\(request.address)", "for": "\(request.remoteAddress)"])
                        self.dialer.dial(request) { outcome in loop.execute { completed(outcome) } }
                    }
                }
            })
    }
}

extension DialBackReceiver {
    /// Takes no nonce: the node is gone.
    fileprivate static var deaf: DialBackReceiver { DialBackReceiver { $1(false) } }
}

extension NetworkInterfaces {
    /// Whether this machine has an address of that family that reaches as far.
    static func canReach(_ address: Multiaddr) -> Bool {
        guard let ip = address.ipAddress else { return false }
        return addresses().contains { own in
            guard let own = own.ipAddress else { return false }
            switch (own, ip) {
            case (.v4, .v4): return ip.scope == .loopback || own.scope != .loopback
            case (.v6, .v6): return ip.scope == own.scope
            case (.v4, .v6), (.v6, .v4): return false
            }
        }
    }
}
