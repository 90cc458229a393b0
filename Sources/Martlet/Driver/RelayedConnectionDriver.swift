import MartletConnection
import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm

/// Runs one peer connection over a stream to a relay, on the loop of the connection to that relay.
///
/// Flow control goes all the way: the relay is given credit for what the connection has taken, and no more is encrypted than the
/// stream can soon send.
final class RelayedConnectionDriver: ConnectionDriver, StreamHandler, @unchecked Sendable {
    /// Bytes that wait in the stream at most, beyond which a small message would wait behind them for long.
    static let queueLimit = 256 * 1024
    private static let pieceSize = 64 * 1024
    /// Pieces below this size are copied out of their block, so that it can be used again at once.
    private static let smallPiece = 4096
    /// Shared by all: blocks for what is on its way to a relay.
    private static let pool = BufferPool(blockSize: pieceSize + 1024, idleLimit: 16)

    let relay: PeerID
    let limit: ConnectionLimit?
    private let stream: PeerStream
    /// The connection to the relay.
    private weak var carrier: ConnectionDriver?
    private var flushWork: RelayedFlush!
    private let openedAt: Instant
    private let carrierTransport: TransportName
    private var sentCount: UInt64 = 0
    private var receivedCount: UInt64 = 0

    init(
        connection: PeerConnection, stream: PeerStream, carrier: ConnectionDriver, relay: PeerID,
        limit: ConnectionLimit?,
        report: @escaping @Sendable (ConnectionID, PeerConnectionEvent) -> Void
    ) {
        self.stream = stream
        self.carrier = carrier
        self.relay = relay
        self.limit = limit
        openedAt = carrier.loop.now
        carrierTransport = carrier.transport
        super.init(connection: connection, loop: carrier.loop, counters: carrier.counters, report: report)
        flushWork = RelayedFlush(self)
    }

    /// Begins with what was already received of the connection.
    func start(with rest: Bytes) {
        stream.handOver(to: self)
        start()
        if !rest.isEmpty { streamReceived(rest, on: stream) }
    }

    override var transport: TransportName { carrierTransport }

    // MARK: Receiving

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        receivedCount += UInt64(bytes.count)
        var rest = bytes
        while !rest.isEmpty, !isClosed {
            // Nothing precedes it: records are opened where they are.
            if connection.leftover.isEmpty, let region = ReceivedRegion(owning: rest) {
                connection.receive(region, now: loop.now)
                break
            }
            feed(rest.takeFirst(min(rest.count, Self.pieceSize)))
        }
        // What the connection took counts against the windows of its own streams from now on.
        stream.consumed(bytes.count)
        if !isClosed { service() }
    }

    /// The connection opens records in place, behind the one that it left unfinished: hence the copy.
    private func feed(_ bytes: Bytes) {
        loop.noteBufferUse()
        let space = loop.receiveBuffer.space(minimum: bytes.count, keeping: connection.leftover)
        bytes.withUnsafeBytes { space.copyMemory(from: $0) }
        connection.receive(loop.receiveBuffer.received(bytes.count), now: loop.now)
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        guard !isClosed else { return }
        // go-libp2p's relay ends a stream in order when a limit in bytes is reached.
        connection.transportClosed(isAtLimit ? .failed(limitExplanation) : .endOfFile, now: loop.now)
        service()
    }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        guard !isClosed else { return }
        connection.transportClosed(.failed(explanation(of: reason)), now: loop.now)
        service()
    }

    private func explanation(of reason: StreamCloseReason) -> String {
        switch reason {
        case .resetByPeer where isAtLimit: limitExplanation
        case .resetByPeer: "the relay \(relay), or the peer behind it, reset the connection"
        case .connectionClosed(let why): "the connection to the relay \(relay) ended: \(why)"
        default: "the stream to the relay \(relay): \(reason)"
        }
    }

    private var limitExplanation: String {
        "the relay \(relay) ended the connection at its limit of \(limit?.description ?? "")"
    }

    /// Whether the limit that the relay named is reached, as far as both clocks and counters agree.
    private var isAtLimit: Bool {
        guard let limit else { return false }
        if let duration = limit.duration, loop.now - openedAt >= duration - .seconds(1) { return true }
        // What is on its way is not counted the same at both ends.
        return limit.byteCount.map { max(sentCount, receivedCount) >= $0 - $0 / 4 } ?? false
    }

    // MARK: Sending

    override func setNeedsFlush() { loop.atEndOfTurn(flushWork) }

    /// There may be room in the stream again.
    func carrierHasRoom() { loop.atEndOfTurn(flushWork) }

    func streamWritable(_ stream: PeerStream) { setNeedsFlush() }

    fileprivate func flush() {
        guard stream.isOpen else { return }
        while connection.hasPendingTransmit {
            guard stream.queuedByteCount < Self.queueLimit else {
                carrier?.tellWhenThereIsRoom(self)
                return
            }
            var buffer = TransmitBuffer(storage: Self.pool.take())
            connection.transmit(into: &buffer, now: loop.now)
            guard buffer.count > 0 else { return }
            sentCount += UInt64(buffer.count)
            let bytes = buffer.storage.slice(0..<buffer.count)
            stream.send(bytes.count < Self.smallPiece ? bytes.compacted() : bytes)
        }
    }

    override func closeTransport() {
        flush()
        stream.finish()
        // A relay that does not end its side is reset.
        stream.startDeadline()
    }
}

/// The flush of a relayed connection as work at the end of a turn.
private final class RelayedFlush: LoopWork, @unchecked Sendable {
    private weak var driver: RelayedConnectionDriver?

    init(_ driver: RelayedConnectionDriver) { self.driver = driver }

    override func run() { driver?.flush() }
}
