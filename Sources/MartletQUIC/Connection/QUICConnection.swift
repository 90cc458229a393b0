import CNgtcp2
import DequeModule
public import MartletConnection
public import MartletCore
import MartletIdentity

/// QUIC v1 with the TLS certificates of libp2p: a secured connection with many streams over datagrams, as a sans-I/O machine.
///
/// Connections are made by a `QUICEndpoint`, which also gives them the datagrams that are theirs. Received stream data is
/// copied once, out of the packets; sent data is encrypted from where it was queued, and kept until it is acknowledged.
///
/// The peer's certificate, and whether it is the expected peer, is checked inside the handshake, before `.established`.
///
/// Specification: RFC 9000 to 9002, libp2p/specs `quic/README.md` and `tls/tls.md`.
public final class QUICConnection: MultiplexedConnection {
    /// How many times an answer may take what it takes at most before a silent peer counts as dead.
    private static let probesBeforeDeath = 3
    /// A call this late means that the own loop stood still; what the peer sent meanwhile is then still unread.
    private static let lateness = Duration.milliseconds(250)

    /// What `RemoteIdentity.muxer` says of such a connection.
    public static let muxerName = "/quic-v1"

    public let role: ConnectionRole
    /// Who is at the other end; nil during the handshake.
    public private(set) var remote: RemoteIdentity?
    /// Where the peer is; it changes when the peer moves and the new path is validated.
    public internal(set) var remoteAddress: QUICAddress

    let configuration: ConnectionConfiguration
    let budget: WindowBudget?
    let inbox: QUICInbox
    let expectedPeer: PeerID?
    weak var endpoint: QUICEndpoint?
    /// The wall clock when the monotonic one showed zero, for the times in certificates.
    let wallOffset: Int64

    // Confined to a loop; the library calls back only from inside the calls made here, and no foreign code is called.
    @exclusivity(unchecked) var handle: OpaquePointer?
    @exclusivity(unchecked) var streams: [Int64: QUICStream] = [:]
    @exclusivity(unchecked) var liveCount = 0
    @exclusivity(unchecked) var scheduler = QUICScheduler()
    @exclusivity(unchecked) var events = Deque<ConnectionEvent>()
    /// The stream whose data is being put together in the inbox, and the one looked up last.
    @exclusivity(unchecked) var runStream: QUICStream?
    @exclusivity(unchecked) var lastStream: QUICStream?
    @exclusivity(unchecked) var random: RandomSource
    @exclusivity(unchecked) var now: Instant
    @exclusivity(unchecked) var lastReceived: Instant
    /// Until when a peer is not dead, because its packets may lie unread.
    @exclusivity(unchecked) private var grace: Instant?
    @exclusivity(unchecked) private var keepAlive: KeepAlive
    /// A PING is to be sent now.
    @exclusivity(unchecked) private var probeIsDue = false
    /// Until when a peer that was doubted has to have said something.
    @exclusivity(unchecked) private var probeEnd: Instant?
    @exclusivity(unchecked) var windowTotal = 0
    @exclusivity(unchecked) var isConnectionFull = false
    /// Something happened after which there may be something to send.
    @exclusivity(unchecked) var mayTransmit = true
    @exclusivity(unchecked) var isClosed = false
    @exclusivity(unchecked) var closeDeadline: Instant?
    @exclusivity(unchecked) var finalDatagram = Bytes()
    @exclusivity(unchecked) var verified: PublicKey?
    @exclusivity(unchecked) var refusal: HandshakeError?
    @exclusivity(unchecked) var lastRoundTripReport: Instant?
    /// The ids under which the endpoint finds the connection.
    @exclusivity(unchecked) var ids: [QUICConnectionID] = []
    /// Where the endpoint keeps notes on the connection.
    @exclusivity(unchecked) var isTouched = false
    @exclusivity(unchecked) var isHandshaking = true

    init(
        role: ConnectionRole, expectedPeer: PeerID?, remoteAddress: QUICAddress, configuration: ConnectionConfiguration,
        budget: WindowBudget?, inbox: QUICInbox, endpoint: QUICEndpoint, wallOffset: Int64, random: RandomSource,
        now: Instant
    ) {
        self.role = role
        self.expectedPeer = expectedPeer
        self.remoteAddress = remoteAddress
        self.configuration = configuration
        self.budget = budget
        self.inbox = inbox
        self.endpoint = endpoint
        self.wallOffset = wallOffset
        self.random = random
        self.now = now
        lastReceived = now
        keepAlive = configuration.keepAlive
    }

    deinit {
        if let handle { mq_free(handle) }
        budget?.release(windowTotal)
    }

    // MARK: Datagrams

    /// One datagram of this connection. Called by the endpoint.
    func receive(_ datagram: UnsafeRawBufferPointer, from address: QUICAddress, now: Instant) {
        guard let handle, !isClosed, let base = datagram.baseAddress else { return }
        self.now = now
        var raw = address.raw
        let code = mq_read(handle, &raw, base.assumingMemoryBound(to: UInt8.self), datagram.count, now.unsigned)
        mayTransmit = true
        if code != 0 { return failed(code) }
        lastReceived = now
        probeEnd = nil
        if isConnectionFull, mq_has_connection_room(handle) != 0 { isConnectionFull = false }
    }

    /// All datagrams of a batch were given.
    func batchEnded() {
        flushRun()
        reportRoundTrip()
    }

    public var hasPendingTransmit: Bool {
        !finalDatagram.isEmpty || (mayTransmit && !isClosed)
    }

    /// Writes datagrams to be sent, as many as may go in one system call. Call again while `hasPendingTransmit`.
    ///
    /// - Parameter room: at least 16 KiB; `DatagramBatch.room` is as much as is used.
    public func transmit(into room: UnsafeMutableRawBufferPointer, now: Instant) -> DatagramBatch? {
        if !finalDatagram.isEmpty { return takeFinal(into: room) }
        guard let handle, !isClosed, let base = room.baseAddress else { return nil }
        self.now = now
        var segment = 0
        var address = mq_address()
        // The library sends a PING of its own accord only: when its keep-alive is due.
        if probeIsDue { mq_set_keep_alive(handle, 1) }
        let count = mq_write(
            handle, base.assumingMemoryBound(to: UInt8.self), room.count, now.unsigned, &segment, &address)
        if probeIsDue {
            probeIsDue = false
            mq_set_keep_alive(handle, keepAlive.interval.map { UInt64(max(1, $0.nanoseconds)) } ?? .max)
        }
        guard count > 0 else {
            mayTransmit = false
            if count < 0 { failed(CInt(truncatingIfNeeded: count)) } else { finishClosing() }
            return finalDatagram.isEmpty ? nil : takeFinal(into: room)
        }
        return DatagramBatch(byteCount: count, datagramSize: segment, destination: QUICAddress(address))
    }

    private func takeFinal(into room: UnsafeMutableRawBufferPointer) -> DatagramBatch? {
        let bytes = finalDatagram
        finalDatagram = Bytes()
        guard bytes.count <= room.count else { return nil }
        bytes.withUnsafeBytes { room.copyMemory(from: $0) }
        return DatagramBatch(byteCount: bytes.count, datagramSize: bytes.count, destination: remoteAddress)
    }

    // MARK: Time

    public var deadline: Instant? {
        guard let handle, !isClosed else { return nil }
        var earliest = Instant(nanoseconds: Int64(clamping: mq_expiry(handle)))
        if let closeDeadline { earliest = min(earliest, closeDeadline) }
        if let death { earliest = min(earliest, death) }
        return earliest == .distantFuture ? nil : earliest
    }

    /// When the silent peer counts as dead: not before there was time for a keep-alive, an answer, and both again when they were lost
    /// (RFC 9000, 10.1, asks for three such times of any idle time-out).
    private var death: Instant? {
        guard remote != nil else { return nil }
        var earliest = probeEnd
        if let deadAfter = keepAlive.deadAfter {
            let inSilence = lastReceived + max(deadAfter, (keepAlive.interval ?? .zero) + timeForAnswers)
            earliest = min(inSilence, probeEnd ?? inSilence)
        }
        return earliest.map { max($0, grace ?? $0) }
    }

    private var timeForAnswers: Duration {
        guard let handle else { return .zero }
        return Duration.nanoseconds(Int64(clamping: mq_probe_timeout(handle))) * Self.probesBeforeDeath
    }

    public func handleTimeout(now: Instant) {
        guard let handle, !isClosed else { return }
        self.now = now
        if let closeDeadline, now >= closeDeadline { return endOrderly() }
        if let death, now >= death {
            guard now - death > Self.lateness else { return end(.unresponsive(now - lastReceived), telling: 0) }
            grace = now + Self.lateness
        }
        guard mq_expiry(handle) <= now.unsigned else { return }
        mayTransmit = true
        let code = mq_handle_expiry(handle, now.unsigned)
        if code != 0 { failed(code) }
    }

    public func setKeepAlive(_ keepAlive: KeepAlive?, now: Instant) {
        self.keepAlive = keepAlive ?? configuration.keepAlive
        guard let handle, !isClosed else { return }
        self.now = now
        mq_set_keep_alive(handle, self.keepAlive.interval.map { UInt64(max(1, $0.nanoseconds)) } ?? .max)
        guard remote != nil, let interval = self.keepAlive.interval, now - lastReceived >= interval else { return }
        let answered = now + max(configuration.probeTime ?? .zero, timeForAnswers)
        grace = max(grace ?? answered, answered)
        probeIsDue = true
        mayTransmit = true
    }

    public func probe(now: Instant) {
        guard remote != nil, !isClosed, probeEnd == nil, let time = configuration.probeTime else { return }
        self.now = now
        probeEnd = now + max(time, timeForAnswers)
        probeIsDue = true
        mayTransmit = true
    }

    private func reportRoundTrip() {
        guard let handle, remote != nil, !isClosed else { return }
        let interval = configuration.keepAliveInterval ?? .seconds(1)
        if let lastRoundTripReport, now < lastRoundTripReport + interval { return }
        lastRoundTripReport = now
        var latest: UInt64 = 0
        var smoothed: UInt64 = 0
        mq_round_trip(handle, &latest, &smoothed)
        if latest > 0, latest < UInt64(Int64.max) { events.append(.roundTrip(.nanoseconds(Int64(latest)))) }
    }

    // MARK: Events

    public func nextEvent() -> ConnectionEvent? {
        flushRun()
        return events.popFirst()
    }

    func push(_ event: ConnectionEvent) {
        flushRun()
        events.append(event)
    }

    /// Hands up what lies in the inbox.
    func flushRun() {
        guard let stream = runStream else { return }
        runStream = nil
        let bytes = inbox.take()
        if !bytes.isEmpty { events.append(.data(stream.streamID, bytes)) }
    }

    // MARK: The handshake

    /// Judges the peer's certificate.
    func verify(_ certificate: [UInt8], count: Int) -> Bool {
        do {
            guard count == 1 else { throw CertificateError.several(count: count) }
            let (wall, overflow) = now.nanoseconds.addingReportingOverflow(wallOffset)
            let time = WallTime(nanosecondsSince1970: overflow ? .max : wall)
            let key = try PeerCertificate(der: certificate, now: time).publicKey
            let actual = PeerID(publicKey: key)
            if let expectedPeer, expectedPeer != actual {
                refusal = .wrongPeer(expected: expectedPeer, actual: actual)
                return false
            }
            verified = key
            return true
        } catch {
            refusal = .certificate("\(error)")
            return false
        }
    }

    /// Returns whether to go on.
    func handshakeCompleted() -> Bool {
        // Without a certificate the handshake should not have come so far.
        guard let verified else {
            refusal = .certificate("\(CertificateError.none)")
            return false
        }
        let identity = RemoteIdentity(
            peerID: PeerID(publicKey: verified), publicKey: verified, muxer: Self.muxerName, earlyMuxer: true)
        remote = identity
        isHandshaking = false
        endpoint?.handshakeEnded(self)
        push(.established(identity))
        return true
    }
}

extension Instant {
    /// As the library counts: never negative, and never its word for "no time".
    var unsigned: UInt64 { UInt64(max(0, nanoseconds)) }
}
