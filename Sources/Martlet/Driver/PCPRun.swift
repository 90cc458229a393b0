import MartletCore
import MartletReachability
import MartletRuntime

/// Runs one exchange of PCP over a UDP socket of its own. On one loop.
final class PCPRun: DatagramSocketDelegate {
    private let loop: EventLoop
    private let gateway: SocketAddress
    private let source: SocketAddress
    private var exchange: PCPExchange
    private var onEnd: ((PCPRun, PCPExchange) -> Void)?
    private var socket: DatagramSocket?
    private var timer: LoopTimer!

    /// - Parameter onEnd: called once, in a later turn of the loop.
    init(loop: EventLoop, gateway: Gateway, exchange: PCPExchange, onEnd: @escaping (PCPRun, PCPExchange) -> Void) {
        self.loop = loop
        self.gateway = SocketAddress(gateway.address, port: PCPMessage.port, scope: gateway.scope)
        // PCP names the address that the packet leaves from.
        source = SocketAddress(gateway.source, port: 0)
        self.exchange = exchange
        self.onEnd = onEnd
        timer = LoopTimer(loop: loop) { [weak self] in self?.step() }
    }

    func start() {
        do {
            var options = DatagramOptions()
            options.sendBufferSize = nil
            options.receiveBufferSize = nil
            let socket = try DatagramSocket.bind(loop: loop, address: source, options: options)
            socket.delegate = self
            self.socket = socket
        } catch {
            exchange.failed("\(error)")
        }
        timer.schedule(at: loop.now)
    }

    private func step() {
        for datagram in exchange.datagrams(now: loop.now) {
            do {
                try socket?.send(Bytes(datagram), to: gateway)
            } catch {
                exchange.failed("\(error)")
            }
        }
        if let deadline = exchange.deadline { timer.schedule(at: deadline) } else { end() }
    }

    private func end() {
        guard let onEnd else { return }
        cancel()
        onEnd(self, exchange)
    }

    /// Ends it without a word.
    func cancel() {
        onEnd = nil
        timer.cancel()
        socket?.close()
        socket = nil
    }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        guard address == gateway else { return }
        exchange.received(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(region.mutableBytes)))
        if exchange.isOver { end() }
    }

    func datagramSocketClosed(_ error: SocketError?) {
        guard onEnd != nil, let error else { return }
        exchange.failed("\(error)")
        end()
    }
}
