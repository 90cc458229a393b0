import MartletCore
import MartletReachability

/// A host of the punch simulation: a main UDP socket, extra ones, and one side of a punch.
///
/// QUIC itself does not run: its handshake is a packet there, a packet back and a packet there, over the path that the punch
/// found.
final class PunchHost {
    static let mainPort: UInt16 = 4001
    private static let initial: UInt8 = 0xC0
    private static let reply: UInt8 = 0xC1
    private static let confirmation: UInt8 = 0xC2
    /// A lost first packet of QUIC is sent again after three times its initial round trip, then twice that.
    private static let retransmissions: [Duration] = [.milliseconds(300), .milliseconds(900)]

    let address: IPAddress
    let router: NATBox?
    let uplink: Duration
    private unowned let network: PunchNetwork
    /// The other side of the relayed connection, and how long words to it take.
    weak var peer: PunchHost?
    var relayDelay = Duration.zero
    private(set) var observer: MappingObserver
    private var random: RandomSource
    private var responder = STUNResponder()
    private var machine: (any PunchMachine)?
    private var extraCount = 0
    private var firstExtraPort: UInt16 = 33_000
    private var acceptsOn: PunchSocket?
    private var timerAt: Instant?
    private(set) var connectedAt: Instant?
    private(set) var report: PunchReport?

    init(
        _ network: PunchNetwork, address: IPAddress, router: NATBox?, uplink: Duration
    ) {
        self.network = network
        self.address = address
        self.router = router
        self.uplink = uplink
        random = network.random.split()
        observer = MappingObserver(port: Self.mainPort, localAddresses: [address])
        network.add(self)
    }

    /// The NAT that the internet sees.
    var outermost: NATBox? {
        var box = router
        while let parent = box?.parent { box = parent }
        return box
    }

    var publicAddress: IPAddress {
        guard let outermost, outermost.specification.translates else { return address }
        return outermost.address
    }

    var mainAddress: TransportAddress { TransportAddress(address, port: Self.mainPort) }
    var isOver: Bool { report != nil }

    // MARK: The punch

    func ask(_ servers: [TransportAddress]) {
        observer.ask(servers, random: &random, now: network.now)
        settle()
    }

    func begin(isDialer: Bool) {
        var description = PunchDescription(nat: observer.natKind)
        if let mapped = observer.mapped { description.udp.append(mapped) }
        if description.udp.first != mainAddress { description.udp.append(mainAddress) }
        let run = PunchRun(
            isDialer: isDialer, local: description, servers: observer.servers, random: random.split(), now: network.now)
        machine = run
        run.start(now: network.now)
        settle()
    }

    func signalled(_ bytes: [UInt8]) {
        machine?.signalled(Bytes(bytes), now: network.now)
        settle()
    }

    func timedOut() {
        guard timerAt == network.now else { return }
        timerAt = nil
        observer.handleTimeout(now: network.now)
        machine?.handleTimeout(now: network.now)
        settle()
    }

    private func settle() {
        while let (bytes, server) = observer.nextOrder() { send(bytes, from: .main, to: server) }
        while let order = machine?.nextOrder() { carryOut(order) }
        guard let deadline = [observer.deadline, machine?.deadline].compactMap(\.self).min() else { return }
        if let timerAt, timerAt <= deadline { return }
        timerAt = max(deadline, network.now)
        network.plan(.timer(self), at: max(deadline, network.now))
    }

    private func carryOut(_ order: PunchOrder) {
        switch order {
        case .signal(let bytes):
            if let peer { network.plan(.signal(bytes, to: peer), at: network.now + relayDelay) }
        case .send(let bytes, let socket, let address): send(bytes, from: socket, to: address)
        case .openSockets(let count):
            extraCount = max(extraCount, count)
            network.plan(
                .action { [weak self] network in
                    guard let self else { return }
                    machine?.socketsOpened(extraCount, now: network.now)
                    settle()
                }, at: network.now)
        case .closeSockets:
            firstExtraPort += UInt16(extraCount)
            extraCount = 0
        case .acceptQUIC(let socket): acceptsOn = socket
        case .connectQUIC(let socket, let address): connect(from: socket, to: address, 0)
        // The simulation carries datagrams only.
        case .expectTCP, .connectTCP, .stopConnecting: break
        case .learnTCP: machine?.learnedTCP([], now: network.now)
        case .finished: report = machine?.report
        }
    }

    // MARK: Datagrams

    private func port(of socket: PunchSocket) -> UInt16 {
        switch socket {
        case .main: Self.mainPort
        case .extra(let index): firstExtraPort + UInt16(index)
        }
    }

    private func socket(at port: UInt16) -> PunchSocket? {
        if port == Self.mainPort { return .main }
        guard port >= firstExtraPort, Int(port - firstExtraPort) < extraCount else { return nil }
        return .extra(Int(port - firstExtraPort))
    }

    private func send(_ bytes: [UInt8], from socket: PunchSocket, to destination: TransportAddress) {
        let source = TransportAddress(address, port: port(of: socket))
        network.send(SimulatedDatagram(source: source, destination: destination, bytes: bytes), from: self)
    }

    private func connect(from socket: PunchSocket, to address: TransportAddress, _ attempt: Int) {
        guard connectedAt == nil, report == nil else { return }
        send([Self.initial], from: socket, to: address)
        guard attempt < Self.retransmissions.count else { return }
        network.plan(
            .action { [weak self] _ in self?.connect(from: socket, to: address, attempt + 1) },
            at: network.now + Self.retransmissions[attempt])
    }

    /// What confirms the handshake is repeated, as QUIC does with what was not acknowledged.
    private func confirm(on socket: PunchSocket, to address: TransportAddress) {
        guard connectedAt == nil else { return }
        send([Self.confirmation], from: socket, to: address)
        for delay in Self.retransmissions {
            network.plan(
                .action { [weak self] _ in self?.send([Self.confirmation], from: socket, to: address) },
                at: network.now + delay)
        }
    }

    func received(_ datagram: SimulatedDatagram) {
        let now = network.now
        if peer == nil {
            let other = TransportAddress(address, port: Self.mainPort + 1)
            guard let answer = responder.answer(datagram.bytes, from: datagram.source, other: other, now: now) else {
                return
            }
            return network.send(
                SimulatedDatagram(source: datagram.destination, destination: datagram.source, bytes: answer.bytes),
                from: self)
        }
        guard let socket = socket(at: datagram.destination.port), let first = datagram.bytes.first else { return }
        switch first {
        case Self.initial where socket == .main || socket == acceptsOn:
            send([Self.reply], from: socket, to: datagram.source)
        case Self.reply:
            confirm(on: socket, to: datagram.source)
            connected(datagram.source)
        case Self.confirmation: connected(datagram.source)
        default:
            if socket == .main { observer.received(datagram.bytes, random: &random, now: now) }
            machine?.received(datagram.bytes, from: datagram.source, on: socket, now: now)
        }
        settle()
    }

    private func connected(_ address: TransportAddress) {
        guard connectedAt == nil else { return }
        connectedAt = network.now
        machine?.connected(at: address.quicMultiaddr, now: network.now)
    }
}
