import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

extension NodeDriver {
    /// Begins to get reservations at the relays that the node was given.
    func startReservations() {
        guard engine.reservations.deadline != nil else { return }
        serveCircuits()
        relayTimer = LoopTimer(loop: home) { [unowned self] in
            engine.reservations.handleTimeout(now: home.now, wallTime: .systemNow())
            drain()
        }
        engine.reservations.handleTimeout(now: home.now, wallTime: .systemNow())
        drain()
    }

    /// Whether this node asked to be reached through `relay`.
    func isReachable(through relay: PeerID) -> Bool { engine.reservations.isReachable(through: relay) }

    /// Takes in what happened to a connection, which may be one to a relay.
    func noteForReservations(_ id: ConnectionID, _ event: PeerConnectionEvent) {
        switch event {
        case .closed(let reason): engine.reservations.connectionClosed(id, "\(reason)", now: home.now)
        case .roundTrip(let time): engine.reservations.roundTrip(time, of: id)
        case .established, .identified, .identifyFailed, .usage: break
        }
    }

    /// Carries out what the reservations want. Returns whether there was anything.
    func drainReservations() -> Bool {
        var hadOrder = false
        while let order = engine.reservations.nextOrder() {
            hadOrder = true
            if !isStopped { carryOut(order) }
        }
        if let deadline = engine.reservations.deadline, !isStopped {
            relayTimer?.schedule(at: deadline)
        } else {
            relayTimer?.cancel()
        }
        return hadOrder
    }

    private func carryOut(_ order: RelayReservations.Order) {
        switch order {
        case .connect(let relay, let peer, let addresses): connect(relay, peer, addresses)
        case .reserve(let relay, let connection): reserve(relay, connection)
        case .announce(let addresses): engine.announce { $0.circuit = addresses }
        case .event(let event): tell(event)
        }
    }

    private func connect(_ relay: RelayReservations.RelayID, _ peer: PeerID?, _ addresses: [Multiaddr]) {
        connectDirectly(to: peer, at: addresses) { driver, result in
            let now = driver.home.now
            switch result {
            case .success(let carrier):
                guard let found = carrier.connection.remote?.peerID else { return }
                driver.engine.swarm.protect(found, for: .relay)
                driver.engine.swarm.useRelay(found, isLasting: true)
                driver.engine.reservations.connected(
                    relay, found, over: carrier.id,
                    at: carrier.connection.role == .dialer ? carrier.connection.remoteAddress : nil,
                    roundTrip: driver.engine.swarm.roundTrip(of: carrier.id), now: now)
            case .failure(let reason): driver.engine.reservations.connectFailed(relay, reason.text, now: now)
            }
            driver.drain()
        }
    }

    private func reserve(_ relay: RelayReservations.RelayID, _ connection: ConnectionID) {
        guard let carrier = driver(of: connection) else { return answer(relay, connection, .failed("not connected")) }
        let keepAlive = engine.reservations.settings.keepAlive
        carrier.loop.execute { [self] in
            // A relay that is gone, or that a machine that slept has lost, is noticed before the request times out.
            carrier.connection.probe(now: carrier.loop.now)
            let request = ReservationRequest { [weak self, weak carrier] outcome in
                if case .reserved = outcome { carrier?.connection.restingKeepAlive = keepAlive }
                self?.toHome { $0.answer(relay, connection, outcome) }
            }
            do {
                _ = try carrier.openStream([Circuit.hopProtocolID], handler: request)
            } catch {
                toHome { $0.answer(relay, connection, .failed("no stream to the relay: \(error)")) }
            }
        }
    }

    private func answer(
        _ relay: RelayReservations.RelayID, _ connection: ConnectionID, _ outcome: ReservationRequest.Outcome
    ) {
        engine.reservations.answered(relay, over: connection, outcome, now: home.now, wallTime: .systemNow())
        drain()
    }

    private func tell(_ event: RelayEvent) {
        switch event {
        case .reserved(let relay, let addresses):
            logger.info("reachable through a relay", metadata: ["relay": "\(relay)"])
            events.send(.relayReserved(relay, addresses: addresses))
        case .lost(let relay, let reason):
            logger.warning(
                "the reservation at a relay is lost", metadata: ["relay": "\(relay)", "reason": "\(reason)"])
            events.send(.relayLost(relay, reason: reason))
        case .failed(let relay, let address, let reason):
            logger.warning("no reservation at a relay yet", metadata: ["relay": "\(address)", "reason": "\(reason)"])
            events.send(.relayFailed(relay, at: address, reason: reason))
        }
    }
}
