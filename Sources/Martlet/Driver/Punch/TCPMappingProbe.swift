import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// Finds out where a NAT shows the TCP port that the node listens at: connects from that port to a peer on the internet and
/// hears by identify where it was seen. Under a key of its own, so that it takes the place of no connection to that peer. The
/// connection stays until the probe ends, so that the NAT keeps the mapping. On the home loop.
final class TCPMappingProbe: @unchecked Sendable {
    private let loop: EventLoop
    private let factory: ConnectionFactory
    private let counters: NodeCounters
    /// Told once, with nil when nobody could tell.
    private var onEnd: ((TransportAddress?) -> Void)?
    private var attempt: DialAttempt?
    private var driver: ConnectionDriver?

    /// - Parameter factory: of the node, whose settings the probe takes over.
    init(
        loop: EventLoop, factory: ConnectionFactory, counters: NodeCounters,
        onEnd: @escaping (TransportAddress?) -> Void
    ) {
        self.loop = loop
        self.counters = counters
        self.onEnd = onEnd
        self.factory = factory.underAnotherKey(KeyPair.generate(), settings: factory.settings)
    }

    /// Asks the peer that listens at `server`, from the listening address `local`.
    func start(_ server: TransportAddress, from local: SocketAddress) {
        let attempt = DialAttempt(loop: loop, to: SocketAddress(server.ip, port: server.port))
        self.attempt = attempt
        attempt.start(from: local) { [weak self] result, from in
            guard let self else {
                if case .success(let socket) = result { socket.close() }
                return
            }
            self.attempt = nil
            guard case .success(let socket) = result else { return tell(nil) }
            // From another port it would say nothing of the one that listens.
            guard from != nil, onEnd != nil else {
                socket.close()
                return tell(nil)
            }
            run(socket, server)
        }
    }

    private func run(_ socket: StreamSocket, _ server: TransportAddress) {
        let connection = factory.makeConnection(
            ConnectionID(rawValue: 0), role: .dialer, remoteAddress: server.tcpMultiaddr, expecting: nil,
            random: .system, now: loop.now)
        let driver = StreamConnectionDriver(
            connection: connection, socket: socket, listener: nil, loop: loop, counters: counters
        ) { [weak self] _, event in self?.reported(event) }
        self.driver = driver
        driver.start()
    }

    private func reported(_ event: PeerConnectionEvent) {
        switch event {
        case .identified(let info, _): tell(info.observedAddress.flatMap { TransportAddress(tcp: $0) })
        case .identifyFailed, .closed: tell(nil)
        case .established, .roundTrip, .usage: break
        }
    }

    private func tell(_ address: TransportAddress?) {
        guard let onEnd else { return }
        self.onEnd = nil
        onEnd(address)
    }

    /// Closes what is open; nobody is told any more.
    func end() {
        onEnd = nil
        attempt?.cancel()
        attempt = nil
        guard let driver else { return }
        self.driver = nil
        // Not from inside a call of the connection.
        loop.execute { driver.close() }
    }
}
