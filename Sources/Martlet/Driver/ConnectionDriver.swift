import CoreMetrics
import MartletConnection
import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm

/// Runs one peer connection over one socket, on the loop that owns both.
final class ConnectionDriver: LoopWork, StreamSocketDelegate, PeerConnectionOwner, @unchecked Sendable {
    let id: ConnectionID
    let loop: EventLoop
    /// Confined to the loop, like the socket and the timer.
    let connection: PeerConnection
    private let socket: StreamSocket
    private var timer: LoopTimer!
    /// Called on the loop for every event of the connection.
    private let report: @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    private var isClosed = false
    private let counters: NodeCounters

    init(
        connection: PeerConnection, socket: StreamSocket, loop: EventLoop, counters: NodeCounters,
        report: @escaping @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    ) {
        id = connection.id
        self.connection = connection
        self.socket = socket
        self.loop = loop
        self.counters = counters
        self.report = report
        super.init()
        timer = LoopTimer(loop: loop) { [unowned self] in timedOut() }
        connection.owner = self
        socket.delegate = self
    }

    /// Begins to read and sends the first bytes.
    func start() {
        socket.start()
        connectionNeedsService(connection)
    }

    // MARK: The socket

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
    }

    func socketClosed(_ error: SocketError?) {
        connection.transportClosed(error.map { .failed("\($0)") } ?? .endOfFile, now: loop.now)
        service()
    }

    private func timedOut() {
        guard !isClosed else { return }
        connection.handleTimeout(now: loop.now)
        service()
    }

    // MARK: Service

    func connectionNeedsService(_ connection: PeerConnection) {
        loop.atEndOfTurn(self)
    }

    override func run() { service() }

    /// Reports what happened, has pending bytes sent at the end of the turn and sets the timer.
    private func service() {
        connection.serviced()
        while let event = connection.nextEvent() {
            report(id, event)
            if case .closed = event { return end() }
        }
        guard !isClosed else { return }
        if connection.hasPendingTransmit { socket.setNeedsFlush() }
        if let deadline = connection.deadline { timer.schedule(at: deadline) } else { timer.cancel() }
    }

    private func end() {
        guard !isClosed else { return }
        isClosed = true
        timer.cancel()
        // What the muxer still had to say (its goodbye) goes out before the socket closes.
        if connection.hasPendingTransmit { socket.setNeedsFlush() }
        socket.close()
    }

    // MARK: Orders, on the loop

    func close() {
        connection.close(now: loop.now)
        service()
    }

    func retire() { connection.retire(now: loop.now) }
    func pushIdentify() { connection.pushIdentify(now: loop.now) }

    func openStream(_ protocols: [String], handler: any StreamHandler) throws -> PeerStream {
        connection.advance(to: loop.now)
        return try connection.openStream(protocols, handler: handler)
    }
}
