import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// Runs a relay within a node: the books (`RelayServer`) on the home loop, and the circuits on those of their connections.
final class RelayService: @unchecked Sendable {
    private weak let driver: NodeDriver?
    private let identity: KeyPair
    let statistics = RelayStatistics()
    private let shared: RateLimit?
    /// For connections of clients at rest.
    let keepAlive: KeepAlive
    /// Confined to the home loop, like the timer.
    private var server: RelayServer
    private var timer: LoopTimer?

    init(driver: NodeDriver, identity: KeyPair, configuration: RelayConfiguration) {
        self.driver = driver
        self.identity = identity
        server = RelayServer(local: identity.peerID, configuration: configuration)
        keepAlive = configuration.keepAlive
        shared = configuration.totalRate.map { RateLimit(rate: $0, now: .systemNow()) }
    }

    /// Serves the hop protocol from now on.
    func serve(in protocols: ProtocolTable, configuration: RelayConfiguration) {
        let limit = configuration.maximumCircuitsPerPeer + Self.spareStreams
        protocols.register(
            Circuit.hopProtocolID,
            .init(streamLimit: limit) { [self] connection in
                guard let driver = connection.owner as? ConnectionDriver, let peer = connection.remote?.peerID else {
                    preconditionFailure("a stream came in on a connection without driver or peer")
                }
                let client = RelayClient(
                    peer: peer, connection: connection.id, remoteAddress: connection.remoteAddress)
                return HopStream(service: self, loop: driver.loop, client: client)
            })
    }

    /// Requests beside circuits that a connection may have open.
    private static let spareStreams = 8

    // MARK: Requests, from any loop

    func reserve(_ hop: HopStream) {
        driver?.toHome { driver in
            let result: Result<CircuitReservation, RelayRefusal>
            do throws(RelayRefusal) {
                result = .success(try self.makeReservation(hop.client, driver))
            } catch {
                result = .failure(error)
            }
            let limit = self.server.limit
            hop.loop.execute {
                switch result {
                case .success(let reservation): hop.granted(reservation, limit: limit)
                case .failure(let refusal): self.refuse(hop, refusal)
                }
            }
        }
    }

    func connect(_ hop: HopStream, to target: PeerID) {
        driver?.toHome { driver in
            do throws(RelayRefusal) {
                try self.makeCircuit(hop, target, driver)
            } catch {
                hop.loop.execute { self.refuse(hop, error) }
            }
        }
    }

    private func refuse(_ hop: HopStream, _ refusal: RelayRefusal) {
        driver?.logger.debug(
            "refused to relay", metadata: ["peer": "\(hop.client.peer)", "reason": "\(refusal.reason)"])
        hop.refuse(refusal.status)
    }

    // MARK: The home loop

    private func makeReservation(
        _ client: RelayClient, _ driver: NodeDriver
    ) throws(RelayRefusal) -> CircuitReservation {
        // The connection may be gone since the request was made, and nobody would end the reservation then.
        guard driver.driver(of: client.connection) != nil, !driver.isStopped else {
            throw RelayRefusal(status: .reservationRefused, reason: "the connection has just ended")
        }
        let lifetime = try server.reserve(client, now: driver.home.now)
        driver.engine.swarm.protect(client.peer, for: .reservation)
        note()
        let seconds = WallTime.systemNow().nanosecondsSince1970 / 1_000_000_000 + lifetime.components.seconds
        let expiration = UInt64(max(0, seconds))
        let voucher = ReservationVoucher(relay: identity.peerID, client: client.peer, expiration: expiration)
        return CircuitReservation(
            expiration: expiration,
            addresses: RelayAddresses.told(
                driver.engine.local.listenAddresses, relay: identity.peerID, to: client.remoteAddress),
            voucher: voucher.sealed(with: identity).bytes)
    }

    private func makeCircuit(_ hop: HopStream, _ target: PeerID, _ driver: NodeDriver) throws(RelayRefusal) {
        guard !driver.isStopped else { throw .unavailable }
        let (id, reserved) = try server.connect(hop.client, to: target, now: driver.home.now)
        guard let connection = directConnection(to: target) ?? driver.driver(of: reserved) else {
            server.circuitEnded(id)
            throw .unavailable
        }
        note()
        let configuration = server.configuration
        let limit = server.limit
        let terms = CircuitTerms(
            limit: limit, rate: configuration.circuitRate, shared: shared, queueLimit: configuration.circuitQueue,
            window: configuration.circuitWindow, halfClosedTimeout: configuration.halfClosedTimeout,
            statistics: statistics)
        let (source, end) = CircuitEnd.pair(hop.loop, connection.loop, terms: terms, now: .systemNow()) {
            self.driver?.toHome { _ in self.ended(id) }
        }
        let stop = StopStream(end: end, source: hop.client.peer, limit: limit) { refusal in
            hop.loop.execute {
                if let refusal { self.refuse(hop, refusal) } else { hop.accepted(limit: limit) }
            }
        }
        // At once where possible: on its own loop, a later answer from another loop would overtake what waits there.
        if hop.loop.inLoop { hop.connecting(source) } else { hop.loop.execute { hop.connecting(source) } }
        connection.loop.execute { stop.start(on: connection, timeout: configuration.answerTimeout) }
    }

    /// The best connection to a peer that is not itself relayed.
    private func directConnection(to peer: PeerID) -> ConnectionDriver? {
        guard let found = driver?.driver(for: peer), !found.connection.remoteAddress.isCircuit else { return nil }
        return found
    }

    private func ended(_ id: CircuitID) {
        server.circuitEnded(id)
        note()
    }

    /// A connection of the node has ended.
    func connectionClosed(_ id: ConnectionID) {
        guard let peer = server.holder(over: id) else { return }
        let replacement = directConnection(to: peer)
        guard server.connectionClosed(id, replacement: replacement?.id) else { return }
        driver?.engine.swarm.unprotect(peer, for: .reservation)
        note()
    }

    /// Sets the timer and tells the numbers.
    private func note() {
        statistics.now(reservations: server.reservationCount, circuits: server.circuitCount)
        guard let deadline = server.deadline, let driver else { return }
        let timer = timer ?? LoopTimer(loop: driver.home) { [weak self] in self?.expire() }
        self.timer = timer
        timer.schedule(at: deadline)
    }

    private func expire() {
        guard let driver else { return }
        for peer in server.handleTimeout(now: driver.home.now) {
            driver.engine.swarm.unprotect(peer, for: .reservation)
        }
        note()
    }

    func stop() { timer?.cancel() }

    var status: RelayStatus {
        RelayStatus(
            reservations: server.reservationCount, circuits: server.circuitCount,
            relayedByteCount: statistics.byteCount,
            refusals: statistics.refusalCount, circuitsCut: statistics.cutCount)
    }
}

extension RelayRefusal {
    /// The peer asked for has just gone, or this node is going.
    static let unavailable = RelayRefusal(status: .connectionFailed, reason: "the connection has just ended")
}
