import CoreMetrics
import MartletConnection
import MartletCore
import MartletRuntime
import MartletSwarm

/// Runs one peer connection over one stream socket.
final class StreamConnectionDriver: ConnectionDriver, StreamSocketDelegate, @unchecked Sendable {
    private let socket: StreamSocket

    init(
        connection: PeerConnection, socket: StreamSocket, listener: Multiaddr?, loop: EventLoop,
        counters: NodeCounters,
        report: @escaping @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    ) {
        self.socket = socket
        super.init(connection: connection, listener: listener, loop: loop, counters: counters, report: report)
        socket.delegate = self
    }

    override var transport: TransportName { socket.remoteAddress.isUnix ? .unix : .tcp }

    override func start() {
        socket.start()
        super.start()
    }

    override func setNeedsFlush() { socket.setNeedsFlush() }
    override func closeTransport() { socket.close() }
    // What is not acknowledged the kernel would send again for minutes, keeping from the pair of ports whoever wants to
    // connect again from the same port; and routers on the way would keep the connection in mind as long.
    override func abandonTransport() { socket.abort() }

    var leftover: Bytes { connection.leftover }

    func socketReceived(_ region: ReceivedRegion) {
        counters.bytesReceived.increment(by: region.count)
        connection.receive(region, now: loop.now)
        service()
    }

    func socketTransmit(into buffer: inout TransmitBuffer) {
        let before = buffer.count
        connection.transmit(into: &buffer, now: loop.now)
        counters.bytesSent.increment(by: buffer.count - before)
        transmitted()
    }

    func socketClosed(_ error: SocketError?) {
        connection.transportClosed(error.map { .failed("\($0)") } ?? .endOfFile, now: loop.now)
        service()
    }
}
