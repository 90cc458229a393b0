import CoreMetrics
import MartletConnection
import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm

/// Runs one peer connection on the loop that owns it. How its bytes travel, subclasses know.
class ConnectionDriver: LoopWork, PeerConnectionOwner, @unchecked Sendable {
    let id: ConnectionID
    let loop: EventLoop
    /// Confined to the loop, like the timer.
    let connection: PeerConnection
    /// The listening socket whose port the connection uses at this end, if it does, as it is bound.
    let listener: Multiaddr?
    private var timer: LoopTimer!
    /// Called on the loop for every event of the connection.
    private let report: @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    private(set) var isClosed = false
    /// Connections that are relayed over this one and wait until their streams have room.
    private var waitingForRoom: [RelayedConnectionDriver] = []
    let counters: NodeCounters
    let meter = RateMeter()
    private var meterWindow = RateMeter.Window()

    init(
        connection: PeerConnection, listener: Multiaddr? = nil, loop: EventLoop, counters: NodeCounters,
        report: @escaping @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    ) {
        id = connection.id
        self.connection = connection
        self.listener = listener
        self.loop = loop
        self.counters = counters
        self.report = report
        super.init()
        timer = LoopTimer(loop: loop) { [unowned self] in timedOut() }
        connection.owner = self
    }

    /// What the connection's bytes travel over.
    var transport: TransportName { .tcp }

    /// Begins to read and sends the first bytes.
    func start() {
        connectionNeedsService(connection)
    }

    /// Has what the connection wants to send be sent at the end of the turn.
    func setNeedsFlush() {}
    /// Nothing comes after what is pending.
    func closeTransport() {}
    /// The other side does not answer: nothing is sent any more, and nothing of the connection stays behind.
    func abandonTransport() { closeTransport() }

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
    final func service() {
        connection.serviced()
        while let event = connection.nextEvent() {
            report(id, event)
            if case .closed(let reason) = event { return end(reason) }
        }
        guard !isClosed else { return }
        meter.update(
            &meterWindow, received: connection.receivedByteCount, sent: connection.sentByteCount, now: loop.now)
        if connection.hasPendingTransmit { setNeedsFlush() }
        if let deadline = connection.deadline { timer.schedule(at: deadline) } else { timer.cancel() }
    }

    private func end(_ reason: ConnectionCloseReason) {
        guard !isClosed else { return }
        isClosed = true
        waitingForRoom = []
        timer.cancel()
        if reason.isSilence { return abandonTransport() }
        // What the muxer still had to say (its goodbye) goes out before the socket closes.
        if connection.hasPendingTransmit { setNeedsFlush() }
        closeTransport()
    }

    // MARK: Relayed connections over this one

    func tellWhenThereIsRoom(_ driver: RelayedConnectionDriver) {
        if !waitingForRoom.contains(where: { $0 === driver }) { waitingForRoom.append(driver) }
    }

    /// Something was sent: there may be room in a stream.
    final func transmitted() {
        guard !waitingForRoom.isEmpty else { return }
        let drivers = waitingForRoom
        waitingForRoom = []
        for driver in drivers { driver.carrierHasRoom() }
    }

    // MARK: Orders, on the loop

    func close() {
        connection.close(now: loop.now)
        service()
    }

    func retire() { connection.retire(now: loop.now) }
    func reinstate() { connection.reinstate(now: loop.now) }
    func pushIdentify() { connection.pushIdentify(now: loop.now) }

    func openStream(
        _ protocols: [String], isHopeful: Bool = false, handler: any StreamHandler
    ) throws(StreamOpenError) -> PeerStream {
        connection.advance(to: loop.now)
        return try connection.openStream(protocols, isHopeful: isHopeful, handler: handler)
    }
}
