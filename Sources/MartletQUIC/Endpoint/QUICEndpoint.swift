import CNgtcp2
import DequeModule
public import MartletConnection
public import MartletCore
public import MartletIdentity

/// All QUIC connections of one UDP socket, as a sans-I/O machine: finds the connection that a datagram belongs to, makes
/// connections for those who dial this node, and dials others from the same socket.
///
///     endpoint.receive(datagrams, datagramSize: 1200, from: address, now: now)
///     while let connection = endpoint.nextAccepted() { … }           // new ones, the handshake still under way
///     while let connection = endpoint.nextTouched() { … }            // something happened: events, transmit, deadline
///     while let (bytes, address) = endpoint.nextAnswer() { … }       // to be sent, but of no connection
///
/// Several endpoints can share one address, each with a socket and a loop of its own (`QUICEndpointGroup`): who gives them datagrams
/// chooses by the connection id (`QUICMember`), and hands over what comes to the wrong one:
///
///     while let datagram = endpoint.nextForward() { … }              // for the `receive` of endpoint `datagram.member`
///
/// Everything that somebody without a connection can make grow has a limit in `QUICConfiguration`.
public final class QUICEndpoint {
    /// Connections that share an address and may each be meant by a packet of an unknown id: no more are tried.
    static let resetCandidates = 4

    public let identity: QUICIdentity
    /// The socket's own address.
    public let localAddress: QUICAddress
    public let configuration: QUICConfiguration
    let connectionConfiguration: ConnectionConfiguration
    let budget: WindowBudget?
    private let wallOffset: Int64
    let group: QUICEndpointGroup
    let member: QUICMember
    private let inbox: QUICInbox
    var random: RandomSource

    private var connections: [QUICConnectionID: QUICConnection] = [:]
    var byAddress: [QUICAddress: [QUICConnection]] = [:]
    private var accepted = Deque<QUICConnection>()
    private var touched = Deque<QUICConnection>()
    /// The connection that datagrams came for last, and its id in them.
    private var current: QUICConnection?
    private var currentID: QUICConnectionID?
    var answers: RingBuffer<(Bytes, QUICAddress)>
    private var forwards: RingBuffer<ForwardedDatagram>
    /// Connections of this endpoint that are alive.
    public private(set) var connectionCount = 0
    /// Those that others began and that are still in the handshake.
    public private(set) var handshakeCount = 0
    /// Datagrams for nobody, or beyond a limit, that were dropped.
    public internal(set) var droppedCount = 0

    /// - Parameters:
    ///   - group: those with which this one shares its address; nil for none.
    ///   - index: its place among them.
    ///   - pool: blocks for received stream data; one pool serves many endpoints.
    ///   - wallTime: what the wall clock shows at `now`.
    public init(
        identity: QUICIdentity, localAddress: QUICAddress, group: QUICEndpointGroup? = nil, index: Int = 0,
        configuration: QUICConfiguration = .init(), connection: ConnectionConfiguration = .init(),
        budget: WindowBudget?,
        pool: BufferPool, random: RandomSource, now: Instant, wallTime: WallTime
    ) {
        self.identity = identity
        self.localAddress = localAddress
        self.configuration = configuration
        connectionConfiguration = connection
        self.budget = budget
        wallOffset = wallTime.nanosecondsSince1970 &- now.nanoseconds
        inbox = QUICInbox(pool: pool)
        var random = random
        self.group = group ?? QUICEndpointGroup(count: 1, random: &random)
        member = QUICMember(index, of: self.group.count)
        self.random = random
        answers = RingBuffer(limit: configuration.maximumQueuedAnswers)
        forwards = RingBuffer(limit: configuration.maximumForwards)
    }

    // MARK: Output

    /// A connection that somebody else began. `refuse` sends it away.
    public func nextAccepted() -> QUICConnection? { accepted.popFirst() }

    /// A connection that got datagrams since it was last returned here.
    public func nextTouched() -> QUICConnection? {
        endRun()
        guard let connection = touched.popFirst() else { return nil }
        connection.isTouched = false
        return connection
    }

    /// A datagram of no connection, and where it goes.
    public func nextAnswer() -> (Bytes, QUICAddress)? { answers.popFirst() }

    /// A datagram that another endpoint of the group is to have.
    public func nextForward() -> ForwardedDatagram? { forwards.popFirst() }

    // MARK: Dialing

    /// Begins a connection. It sends its first datagram with its first `transmit`.
    ///
    /// - Parameter expected: who must answer; nil for anyone.
    /// - Throws: when the endpoint is full, or the library refuses.
    public func connect(
        to address: QUICAddress, expecting expected: PeerID?, now: Instant
    ) throws(QUICDialError) -> QUICConnection {
        guard group.begin(isHandshake: false, configuration) else {
            throw .tooManyConnections(limit: configuration.maximumConnections)
        }
        let connection = make(.dialer, address, expected, now)
        var parameters = parameters(for: connection, now)
        let id = makeID()
        set(&parameters, id)
        let first = random.bytes(18)
        connection.handle = mq_client_create(
            identity.credentials, &parameters, first, first.count, QUICHandlers.table,
            Unmanaged.passUnretained(connection).toOpaque())
        guard connection.handle != nil else {
            group.ended(isHandshake: false)
            throw .libraryFailed
        }
        connection.isHandshaking = false
        begin(connection, ids: [QUICConnectionID(id, id.count)])
        return connection
    }

    // MARK: Receiving

    /// Takes datagrams that came from one address, lying one behind the other, all of one size but the last. What many calls bring
    /// for a connection is handed up together, when `nextTouched` is asked.
    public func receive(
        _ datagrams: UnsafeRawBufferPointer, datagramSize: Int, from address: QUICAddress, now: Instant
    ) {
        guard datagramSize > 0 else { return }
        var start = 0
        while start < datagrams.count {
            let end = min(start + datagramSize, datagrams.count)
            let datagram = UnsafeRawBufferPointer(rebasing: datagrams[start..<end])
            start = end
            receive(datagram, from: address, forwarded: nil, now: now)
        }
    }

    /// Takes a datagram that came to another endpoint of the group.
    public func receive(_ datagram: ForwardedDatagram, now: Instant) {
        datagram.bytes.withUnsafeBytes { receive($0, from: datagram.from, forwarded: datagram, now: now) }
    }

    private func receive(
        _ datagram: UnsafeRawBufferPointer, from address: QUICAddress, forwarded: ForwardedDatagram?, now: Instant
    ) {
        let id = Self.shortID(datagram)
        if let id, id == currentID, let connection = current, !connection.isClosed {
            return connection.receive(datagram, from: address, now: now)
        }
        let connection = find(datagram, address, forwarded, now)
        if connection !== current { endRun() }
        current = connection
        currentID = id
        guard let connection else { return }
        connection.receive(datagram, from: address, now: now)
        touch(connection)
    }

    /// Hands up what the last connection received: the next uses the same room.
    private func endRun() {
        current?.batchEnded()
        current = nil
        currentID = nil
    }

    /// Gives back the memory that only traffic needs.
    public func release() { inbox.release() }

    /// The id in a packet with a short header, which all packets of a connection have after its handshake.
    private static func shortID(_ datagram: UnsafeRawBufferPointer) -> QUICConnectionID? {
        guard datagram.count > QUICConnectionID.byteCount, let base = datagram.baseAddress, datagram[0] & 0x80 == 0
        else { return nil }
        return QUICConnectionID(
            base.advanced(by: 1).assumingMemoryBound(to: UInt8.self), QUICConnectionID.byteCount)
    }

    /// The connection that a datagram belongs to, made if it begins one.
    private func find(
        _ datagram: UnsafeRawBufferPointer, _ address: QUICAddress, _ forwarded: ForwardedDatagram?, _ now: Instant
    ) -> QUICConnection? {
        guard let base = datagram.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return nil }
        var header = mq_header()
        guard mq_decode(base, datagram.count, &header) == 0,
            let id = QUICConnectionID(header.destination, header.destination_length)
        else { return drop() }
        if let known = connections[id] { return known }
        if header.is_unknown_version != 0 {
            negotiateVersion(header, datagram.count, address)
            return nil
        }
        let owner = member.owner(of: id)
        if owner != member.index, forwarded == nil {
            forward(datagram, address, to: owner)
            return nil
        }
        if header.is_long != 0 { return accept(datagram, address, now) }
        if wasReset(datagram, address, now) || askOthers(datagram, address, forwarded, now) { return nil }
        reset(header, datagram.count, address, now)
        return drop()
    }

    /// Has another endpoint of the group get a datagram.
    func forward(
        _ datagram: UnsafeRawBufferPointer, _ address: QUICAddress, to other: Int, asked: Set64 = Set64()
    ) {
        guard datagram.count <= ForwardedDatagram.maximumByteCount, !forwards.isFull else { return droppedCount &+= 1 }
        _ = forwards.append(ForwardedDatagram(datagram, from: address, to: other, asked: asked))
    }

    private func drop() -> QUICConnection? {
        droppedCount &+= 1
        return nil
    }

    // MARK: Accepting

    private func accept(_ datagram: UnsafeRawBufferPointer, _ address: QUICAddress, _ now: Instant) -> QUICConnection? {
        guard let base = datagram.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return nil }
        var initial = mq_initial()
        guard mq_accept(base, datagram.count, &initial) == 0 else { return drop() }
        var original = [UInt8](repeating: 0, count: Int(MQ_MAXIMUM_ID_LENGTH))
        var originalCount = 0
        var raw = address.raw
        let hasShownAddress =
            mq_check_retry(
                &initial, group.retrySecret, &raw, UInt64(max(0, configuration.retryLifetime.nanoseconds)),
                now.unsigned,
                &original, &originalCount) != 0
        let handshakeCount = group.handshakeCount
        if handshakeCount >= configuration.retryThreshold, handshakeCount < configuration.maximumHandshakes,
            !hasShownAddress
        {
            sendRetry(&initial, address, now)
            return nil
        }
        guard group.begin(isHandshake: true, configuration) else { return drop() }
        let first = withUnsafeBytes(of: &initial.destination) {
            QUICConnectionID($0.baseAddress?.assumingMemoryBound(to: UInt8.self), initial.destination_length)
        }
        let connection = make(.listener, address, nil, now)
        var parameters = parameters(for: connection, now)
        let id = makeID()
        set(&parameters, id)
        connection.handle = original.withUnsafeBufferPointer { bytes in
            mq_server_create(
                identity.credentials, &parameters, &initial, hasShownAddress ? bytes.baseAddress : nil, originalCount,
                QUICHandlers.table, Unmanaged.passUnretained(connection).toOpaque())
        }
        guard connection.handle != nil else {
            group.ended(isHandshake: true)
            return drop()
        }
        self.handshakeCount += 1
        // Until the client knows the new id it sends to the one that it made up.
        begin(connection, ids: [QUICConnectionID(id, id.count), first])
        accepted.append(connection)
        return connection
    }

    private func make(
        _ role: ConnectionRole, _ address: QUICAddress, _ expected: PeerID?, _ now: Instant
    ) -> QUICConnection {
        QUICConnection(
            role: role, expectedPeer: expected, remoteAddress: address, configuration: connectionConfiguration,
            budget: budget, inbox: inbox, endpoint: self, wallOffset: wallOffset, random: random.split(), now: now)
    }

    private func begin(_ connection: QUICConnection, ids: [QUICConnectionID?]) {
        connectionCount += 1
        for id in ids {
            guard let id else { continue }
            connection.ids.append(id)
            connections[id] = connection
        }
        addAddress(of: connection)
    }

    /// A new connection id of this endpoint.
    func makeID() -> [UInt8] {
        var id = random.bytes(QUICConnectionID.byteCount)
        member.claim(&id[0])
        return id
    }

    private func parameters(for connection: QUICConnection, _ now: Instant) -> mq_parameters {
        let settings = connectionConfiguration
        var parameters = mq_parameters()
        parameters.local = localAddress.raw
        parameters.remote = connection.remoteAddress.raw
        parameters.now = now.unsigned
        parameters.keep_alive = settings.keepAliveInterval.map { UInt64(max(1, $0.nanoseconds)) } ?? 0
        parameters.idle_timeout = UInt64(max(0, configuration.idleTimeout.nanoseconds))
        parameters.handshake_timeout = UInt64(max(1, settings.handshakeTimeout.nanoseconds))
        parameters.initial_rtt = UInt64(max(1, configuration.initialRoundTrip.nanoseconds))
        parameters.stream_window = UInt64(settings.initialWindow)
        parameters.connection_window = UInt64(settings.maximumConnectionWindow)
        parameters.maximum_streams = UInt64(settings.maximumStreams)
        parameters.maximum_datagram = max(1200, configuration.maximumDatagramSize)
        parameters.use_bbr = configuration.usesBBR ? 1 : 0
        withUnsafeMutableBytes(of: &parameters.reset_secret) { $0.copyBytes(from: identity.resetSecret) }
        return parameters
    }

    private func set(_ parameters: inout mq_parameters, _ id: [UInt8]) {
        withUnsafeMutableBytes(of: &parameters.id) { $0.copyBytes(from: id) }
    }

    // MARK: What connections report

    func register(_ id: QUICConnectionID, for connection: QUICConnection) { connections[id] = connection }

    func unregister(_ id: QUICConnectionID) { connections[id] = nil }

    func handshakeEnded(_ connection: QUICConnection) {
        guard connection.role == .listener else { return }
        handshakeCount -= 1
        group.handshakeEnded()
    }

    func moved(_ connection: QUICConnection, to address: QUICAddress) {
        removeAddress(of: connection)
        connection.remoteAddress = address
        addAddress(of: connection)
    }

    func ended(_ connection: QUICConnection) {
        for id in connection.ids { connections[id] = nil }
        connection.ids = []
        removeAddress(of: connection)
        connectionCount -= 1
        let isHandshake = connection.role == .listener && connection.remote == nil
        if isHandshake { handshakeCount -= 1 }
        group.ended(isHandshake: isHandshake)
        touch(connection)
    }

    private func addAddress(of connection: QUICConnection) {
        byAddress[connection.remoteAddress, default: []].append(connection)
        group.add(connection.remoteAddress, at: member)
    }

    private func removeAddress(of connection: QUICConnection) {
        group.remove(connection.remoteAddress, at: member)
        byAddress[connection.remoteAddress]?.removeAll { $0 === connection }
        if byAddress[connection.remoteAddress]?.isEmpty == true { byAddress[connection.remoteAddress] = nil }
    }

    private func touch(_ connection: QUICConnection) {
        guard !connection.isTouched else { return }
        connection.isTouched = true
        touched.append(connection)
    }
}

/// Why a dial could not even begin.
public enum QUICDialError: Error, Hashable, Sendable, CustomStringConvertible {
    case tooManyConnections(limit: Int)
    case libraryFailed

    public var description: String {
        switch self {
        case .tooManyConnections(let limit): "the QUIC endpoint already has \(limit) connections"
        case .libraryFailed: "the QUIC library could not begin a connection"
        }
    }
}
