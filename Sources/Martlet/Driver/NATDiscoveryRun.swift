import MartletCore
import MartletReachability
import MartletRuntime

/// One discovery of how NATs treat UDP, over two sockets of its own. On one loop.
final class NATDiscoveryRun: @unchecked Sendable {
    /// How long the packet of a stranger is waited for: servers of AutoNAT take up to eight seconds over a dial.
    private static let strangerPatience = Duration.seconds(12)

    /// Has a stranger send something to a socket, and is told what is known so far; called once at most. Returns whether there is
    /// one, which then calls back, with whether it did send, unless the run is over.
    var askStranger: ((NATBehaviorDiscovery.StrangerWanted, NATBehavior, @escaping (Bool) -> Void) -> Bool)?
    private var strangerDeadline: Instant?
    private let loop: EventLoop
    private let isIP4: Bool
    private var machine: NATBehaviorDiscovery?
    private var sockets: [NATBehaviorDiscovery.Socket: DatagramSocket] = [:]
    private var receivers: [Receiver] = []
    private var timer: LoopTimer!
    private var onEnd: ((NATBehavior?) -> Void)?

    /// - Parameter onEnd: called once, in a later turn of the loop; with nil when there are no sockets to be had.
    init(loop: EventLoop, isIP4: Bool, onEnd: @escaping (NATBehavior?) -> Void) {
        self.loop = loop
        self.isIP4 = isIP4
        self.onEnd = onEnd
        timer = LoopTimer(loop: loop) { [weak self] in
            guard let self else { return }
            if strangerDeadline != nil { return end() }
            machine?.handleTimeout(now: self.loop.now)
            drain()
        }
    }

    func start(_ servers: [TransportAddress], localAddresses: [IPAddress]) {
        var ports: [NATBehaviorDiscovery.Socket: UInt16] = [:]
        for place in NATBehaviorDiscovery.Socket.allCases {
            guard let socket = open(place) else { break }
            sockets[place] = socket
            ports[place] = socket.localAddress.port
        }
        if sockets.count == NATBehaviorDiscovery.Socket.allCases.count {
            machine = NATBehaviorDiscovery(
                servers: servers, ports: ports, localAddresses: localAddresses, random: .system)
            machine?.start(now: loop.now)
        }
        drain()
    }

    private func open(_ place: NATBehaviorDiscovery.Socket) -> DatagramSocket? {
        var options = DatagramOptions()
        options.sendBufferSize = nil
        options.receiveBufferSize = nil
        let any: IPAddress = isIP4 ? .v4(.any) : .v6(.any)
        let socket = try? DatagramSocket.bind(loop: loop, address: SocketAddress(any, port: 0), options: options)
        let receiver = Receiver { [weak self] in self?.received($0, $1, on: place) }
        socket?.delegate = receiver
        receivers.append(receiver)
        return socket
    }

    private func received(_ bytes: [UInt8], _ address: SocketAddress, on place: NATBehaviorDiscovery.Socket) {
        guard let ip = address.ipAddress else { return }
        machine?.received(bytes, from: TransportAddress(ip, port: address.port), on: place, now: loop.now)
        drain()
    }

    private func drain() {
        while let order = machine?.nextOrder() {
            // What is lost is sent again.
            try? sockets[order.socket]?.send(Bytes(order.bytes), to: SocketAddress(order.to.ip, port: order.to.port))
        }
        if let deadline = machine?.deadline {
            timer.schedule(at: deadline)
        } else if let machine, let wanted = machine.strangerWanted, strangerDeadline == nil, let askStranger {
            self.askStranger = nil
            let isAsked = askStranger(wanted, machine.behavior) { [loop] hasSent in
                loop.execute { [weak self] in
                    if hasSent { self?.machine?.strangerDidNotGetIn() }
                    self?.end()
                }
            }
            guard isAsked else {
                loop.execute { [self] in end() }
                return
            }
            let deadline = loop.now + Self.strangerPatience
            strangerDeadline = deadline
            timer.schedule(at: deadline)
        } else if machine?.strangerWanted == nil || strangerDeadline == nil {
            timer.cancel()
            loop.execute { [self] in end() }
        }
    }

    private func end() {
        guard let onEnd else { return }
        self.onEnd = nil
        close()
        onEnd(machine?.behavior)
    }

    func close() {
        onEnd = nil
        askStranger = nil
        timer.cancel()
        for socket in sockets.values { socket.close() }
        sockets = [:]
    }

    private final class Receiver: DatagramSocketDelegate {
        /// QUIC's first packets have 1,200 bytes and more, of which none matters.
        private static let sizeLimit = 256
        private let take: ([UInt8], SocketAddress) -> Void

        init(_ take: @escaping ([UInt8], SocketAddress) -> Void) { self.take = take }

        func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
            take(Array(region.mutableBytes.prefix(Self.sizeLimit)), address)
        }
    }
}
