import CoreMetrics
import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

extension NodeDriver {
    /// Streams of relayed connections that one relay may have open to this node.
    static let inboundCircuitLimit = 256

    // MARK: Dialing

    /// Connects to `peer` through a relay, over the direct connection to that, which is made first when there is none.
    func dialThroughRelay(_ id: ConnectionID, _ relay: PeerID, at addresses: [Multiaddr], to peer: PeerID) {
        logger.debug("dialing through a relay", metadata: ["relay": "\(relay)", "peer": "\(peer)"])
        let dial = CircuitDial(relay: relay, peer: peer)
        dialing[id] = dial
        engine.swarm.useRelay(relay, isLasting: false)
        let request = connectDirectly(to: relay, at: addresses) { driver, result in
            guard !dial.isCancelled else { return }
            switch result {
            case .success(let carrier): driver.ask(dial, id, carrier)
            case .failure(let error): driver.dialEnded(id, "the relay cannot be reached: \(error)")
            }
        }
        dial.cancelRequest = { [weak self] in
            guard let self else { return }
            cancelOwn(request)
        }
        drain()
    }

    private func ask(_ dial: CircuitDial, _ id: ConnectionID, _ carrier: ConnectionDriver) {
        let address = CircuitAddress.remoteAddress(through: dial.relay)
        let (relay, peer) = (dial.relay, dial.peer)
        dial.ask(carrier) { [weak self] outcome in
            guard let self else { return }
            switch outcome {
            case .connected(let stream, let rest, let limit):
                toHome { $0.dialing[id] = nil }
                let connection = factory.makeConnection(
                    id, role: .dialer, remoteAddress: address, expecting: peer, random: .system, now: carrier.loop.now)
                run(connection, over: stream, rest, carrier, relay, limit)
            case .failed(let fault): toHome { $0.dialEnded(id, "\(fault)", mayPass: fault.mayPass) }
            }
        }
    }

    private func dialEnded(_ id: ConnectionID, _ reason: String, mayPass: Bool = false) {
        guard dialing.removeValue(forKey: id) != nil else { return }
        failed(id, reason, mayPass: mayPass)
    }

    /// Starts a relayed connection, on the loop of the connection to the relay.
    private func run(
        _ connection: PeerConnection, over stream: PeerStream, _ rest: Bytes, _ carrier: ConnectionDriver,
        _ relay: PeerID, _ limit: ConnectionLimit?
    ) {
        let driver = RelayedConnectionDriver(
            connection: connection, stream: stream, carrier: carrier, relay: relay, limit: limit
        ) { [weak self] id, event in
            self?.toHome { $0.reported(id, event) }
        }
        toHome {
            if let limit { $0.engine.swarm.setLimit(limit, of: driver.id) }
            $0.started(driver)
        }
        driver.start(with: rest)
    }

    // MARK: Accepting

    /// Takes connections that relays bring, from those relays that this node asked to be reached through.
    func serveCircuits() {
        engine.local.protocols.register(
            Circuit.stopProtocolID,
            .init(streamLimit: Self.inboundCircuitLimit) { [weak self] connection in
                CircuitAcceptor { acceptor, request in
                    guard let self, let carrier = connection.owner as? ConnectionDriver,
                        let relay = connection.remote?.peerID
                    else { return acceptor.refuse(.connectionFailed) }
                    // Nothing of the acceptor is touched on the home loop; it is only passed on.
                    nonisolated(unsafe) let acceptor = acceptor
                    self.toHome { $0.accept(acceptor, request, carrier, relay) }
                }
            })
    }

    private func accept(
        _ acceptor: CircuitAcceptor, _ request: CircuitAcceptor.Request, _ carrier: ConnectionDriver, _ relay: PeerID
    ) {
        let address = CircuitAddress.remoteAddress(through: relay)
        // Touched on the carrier's loop alone.
        nonisolated(unsafe) let acceptor = acceptor
        let refuse = { @Sendable (status: CircuitStatus) -> Void in
            carrier.loop.execute { acceptor.refuse(status) }
        }
        guard !isStopped, isReachable(through: relay), !carrier.connection.remoteAddress.isCircuit else {
            logger.debug("refused a relayed connection", metadata: ["relay": "\(relay)", "peer": "\(request.peer)"])
            return refuse(.permissionDenied)
        }
        guard let id = try? engine.swarm.accepted(from: address, now: home.now) else {
            counters.connectionsRefused.increment()
            return refuse(.resourceLimitExceeded)
        }
        carrier.loop.execute { [self] in
            guard let (stream, rest) = acceptor.accept() else {
                return toHome { $0.reported(id, .closed(.transportFailed("the relay went away"))) }
            }
            // The relay said who calls; whoever it is has to prove that.
            let connection = factory.makeConnection(
                id, role: .listener, remoteAddress: address, expecting: request.peer, random: .system,
                now: carrier.loop.now)
            run(connection, over: stream, rest, carrier, relay, request.limit)
        }
    }

    // MARK: Connections to relays

    /// Finds or makes a connection that is not relayed; `body` is called once on the home loop, perhaps at once.
    @discardableResult
    func connectDirectly(
        to peer: PeerID?, at addresses: [Multiaddr],
        _ body: @escaping (NodeDriver, Result<ConnectionDriver, DialReason>) -> Void
    ) -> RequestID {
        let answer = { (driver: NodeDriver, result: Result<ConnectedPeer, DialError>) in
            switch result {
            case .success(let connected):
                // The connection may have been replaced by one that is as direct.
                if let found = driver.driver(of: connected.connection) ?? driver.driver(for: connected.peer),
                    !found.connection.remoteAddress.isCircuit
                {
                    body(driver, .success(found))
                } else {
                    body(driver, .failure(DialReason("the connection closed at once")))
                }
            case .failure(let error): body(driver, .failure(DialReason("\(error)")))
            }
        }
        let request = requests.add(.node(answer))
        engine.swarm.connect(request, to: peer, at: addresses, directly: true, now: home.now)
        return request
    }
}
