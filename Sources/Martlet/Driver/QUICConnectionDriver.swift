import MartletConnection
import MartletCore
import MartletQUIC
import MartletRuntime
import MartletSwarm

/// Runs one peer connection over QUIC, sharing a UDP socket with others.
final class QUICConnectionDriver: ConnectionDriver, @unchecked Sendable {
    let muxer: QUICConnection
    private let socket: QUICSocket
    /// Whether it waits for its turn to send.
    var isSending = false

    init(
        connection: PeerConnection, muxer: QUICConnection, socket: QUICSocket, counters: NodeCounters,
        report: @escaping @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    ) {
        self.muxer = muxer
        self.socket = socket
        super.init(
            connection: connection, listener: socket.isListening ? socket.address.quicMultiaddr : nil,
            loop: socket.loop,
            counters: counters, report: report)
        socket.add(self)
    }

    override var transport: TransportName { .quic }

    override func start() {
        // What came while the connection had no driver yet.
        connection.muxerServed(now: loop.now)
        super.start()
    }

    /// Datagrams were given to the muxer, or taken from it.
    func served() {
        connection.muxerServed(now: loop.now)
        transmitted()
        service()
    }

    func transportClosed(_ reason: String) {
        connection.transportClosed(.failed(reason), now: loop.now)
        service()
    }

    override func setNeedsFlush() { socket.setNeedsFlush(self) }
    override func closeTransport() { socket.remove(self) }
}
