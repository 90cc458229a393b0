import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// One peer of a crowd: an identity of its own, one connection to a relay, and a reservation there. Confined to its loop.
final class ReservationHolder: LoopWork, StreamSocketDelegate, PeerConnectionOwner, StreamHandler, @unchecked Sendable {
    typealias Outcome = Result<Void, Failure>

    private let loop: EventLoop
    private let socket: StreamSocket
    private let connection: PeerConnection
    private var timer: LoopTimer?
    private var reader = PrefixedMessageReader.circuit()
    private var onOutcome: ((Outcome) -> Void)?

    /// Connects to the relay and reserves. In-loop; `onOutcome` comes once, whatever happens later.
    static func start(
        loop: EventLoop, relay: PeerID, at address: SocketAddress, _ remoteAddress: Multiaddr,
        onOutcome: @escaping (ReservationHolder?, Outcome) -> Void
    ) {
        StreamSocket.connect(loop: loop, to: address) { result in
            switch result {
            case .success(let socket):
                let holder = ReservationHolder(loop, socket, relay, remoteAddress)
                holder.onOutcome = { [unowned holder] outcome in onOutcome(holder, outcome) }
                socket.start()
                holder.service()
            case .failure(let error): onOutcome(nil, .failure(Failure("\(error)")))
            }
        }
    }

    private init(_ loop: EventLoop, _ socket: StreamSocket, _ relay: PeerID, _ address: Multiaddr) {
        self.loop = loop
        self.socket = socket
        var random = RandomSource.system
        let identity = KeyPair.generate()
        let local = LocalPeer(
            identity: identity, network: "martlet/1.0.0", agentVersion: "martlet-bench", protocols: ProtocolTable(),
            sequence: 1)
        let configuration = ConnectionConfiguration()
        let muxer = SecureConnection(
            role: .dialer, identity: NoiseIdentity(identity: identity, random: &random), expectedPeer: relay,
            configuration: configuration, budget: nil, random: random, now: loop.now)
        var settings = PeerConnectionSettings()
        settings.identifiesPeers = false
        Identify.register(in: local.protocols)
        // As much as a real node says of itself: the relay remembers it.
        for name in Self.protocolNames {
            local.protocols.register(name, .init(streamLimit: 1) { _ in PingResponder() })
        }
        if let own = try? Multiaddr("/ip4/192.0.2.1/tcp/4001") { local.setListenAddresses([own, address]) }
        connection = PeerConnection(
            id: ConnectionID(rawValue: 1), role: .dialer, remoteAddress: address, muxer: muxer,
            sendHighWater: configuration.sendHighWater, local: local, settings: settings, now: loop.now)
        super.init()
        timer = LoopTimer(loop: loop) { [weak self] in self?.timedOut() }
        connection.owner = self
        socket.delegate = self
    }

    private static let protocolNames =
        [Ping.protocolID, Circuit.stopProtocolID] + (1...10).map { "/martlet/bench/crowd/\($0)" }

    private func tell(_ outcome: Outcome) { onOutcome.take()?(outcome) }

    func close() {
        connection.close(now: loop.now)
        service()
    }

    // MARK: The connection

    func connectionNeedsService(_ connection: PeerConnection) { loop.atEndOfTurn(self) }

    override func run() { service() }

    private func timedOut() {
        connection.handleTimeout(now: loop.now)
        service()
    }

    private func service() {
        connection.serviced()
        while let event = connection.nextEvent() {
            switch event {
            case .established: reserve()
            case .closed(let reason):
                tell(.failure(Failure("\(reason)")))
                timer?.cancel()
                if connection.hasPendingTransmit { socket.setNeedsFlush() }
                return socket.close()
            case .identified, .identifyFailed, .roundTrip, .usage: break
            }
        }
        if connection.hasPendingTransmit { socket.setNeedsFlush() }
        if let deadline = connection.deadline { timer?.schedule(at: deadline) } else { timer?.cancel() }
    }

    var leftover: Bytes { connection.leftover }

    func socketReceived(_ region: ReceivedRegion) {
        connection.receive(region, now: loop.now)
        service()
    }

    func socketTransmit(into buffer: inout TransmitBuffer) { connection.transmit(into: &buffer, now: loop.now) }

    func socketClosed(_ error: SocketError?) {
        connection.transportClosed(error.map { .failed("\($0)") } ?? .endOfFile, now: loop.now)
        service()
    }

    // MARK: The reservation

    private func reserve() {
        do {
            try connection.openStream([Circuit.hopProtocolID], handler: self)
        } catch {
            tell(.failure(Failure("\(error)")))
        }
    }

    func streamOpened(_ stream: PeerStream) { stream.send(Bytes(HopMessage.reserve.encoded)) }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        var rest = bytes
        do {
            guard let message = try reader.next(from: &rest) else { return }
            switch try HopMessage(message) {
            case .status(.ok, _?, _):
                connection.restingKeepAlive = RelayReservationSettings().keepAlive
                tell(.success(()))
            case .status(let status, _, _): tell(.failure(Failure("the relay answered \(status)")))
            case .reserve, .connect: tell(.failure(Failure("the relay answered with a request")))
            }
        } catch {
            tell(.failure(Failure("\(error)")))
        }
        stream.finish()
    }

    func streamRemoteFinished(_ stream: PeerStream) { stream.finish() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        tell(.failure(Failure("no answer to the reservation: \(reason)")))
    }
}
