import CoreMetrics
import DequeModule
import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC
import MartletReachability
import MartletRuntime
import MartletSwarm

/// One UDP socket with its QUIC endpoint and the connections over it, all on one loop. An address that the node listens at has one for
/// each loop (`QUICSocketGroup`).
final class QUICSocket: LoopWork, DatagramSocketDelegate, @unchecked Sendable {
    /// Batches of one connection that are sent before others have their turn.
    private static let batchesPerTurn = 8
    /// Datagrams of hole punching: the longest, and how many of them are looked at in a second.
    private static let packetByteCountLimit = 256
    private static let packetsPerSecond = 4000

    let loop: EventLoop
    let address: SocketAddress
    let isListening: Bool
    /// Those with which this one shares its address, and its place among them.
    let group: QUICSocketGroup?
    private let index: Int
    /// What came to others and is for this one.
    let handover: QUICHandover
    private let socket: DatagramSocket
    private let endpoint: QUICEndpoint
    private let counters: NodeCounters
    /// Called on the loop for every connection that somebody else begins.
    private let accept: @Sendable (QUICSocket, QUICConnection) -> Void
    /// Called on the loop for datagrams that are neither QUIC's nor questions of STUN: those of hole punching.
    private let packet: @Sendable (QUICSocket, [UInt8], SocketAddress) -> Void
    private var responder = STUNResponder()
    /// Other sockets that answer STUN, which askers are told of.
    var stun: STUNSockets?
    /// Datagrams handed to `packet` in the second that began then.
    private var packetWindow = Instant(nanoseconds: .min)
    private var packetCount = 0
    private let room: UnsafeMutableRawBufferPointer
    private var drivers: [ObjectIdentifier: QUICConnectionDriver] = [:]
    private var sending = Deque<QUICConnectionDriver>()
    /// What the kernel had no room for.
    private var blocked: (Bytes, DatagramBatch)?
    private var isClosing = false

    /// How a UDP socket is fit for QUIC.
    private static var options: DatagramOptions {
        var options = DatagramOptions()
        options.joinsDatagrams = true
        options.sendBufferSize = DatagramBuffers.wanted.sendByteCount
        options.receiveBufferSize = DatagramBuffers.wanted.receiveByteCount
        return options
    }

    /// Opens a UDP socket fit for QUIC. In-loop only.
    static func bind(loop: EventLoop, at address: SocketAddress) throws(SocketError) -> DatagramSocket {
        try DatagramSocket.bind(loop: loop, address: address, options: options)
    }

    /// Sockets that share an address, one for each of `count` loops; where the system cannot do that, one.
    static func bindGroup(of count: Int, at address: SocketAddress) throws(SocketError) -> [BoundDatagramSocket] {
        try BoundDatagramSocket.group(
            of: min(count, QUICEndpointGroup.maximumCount), at: address, options: options)
    }

    /// A socket that only dials. In-loop only.
    static func dialing(
        loop: EventLoop, at address: SocketAddress, settings: QUICSettings, counters: NodeCounters
    ) throws(SocketError) -> QUICSocket {
        QUICSocket(
            loop: loop, over: try bind(loop: loop, at: address), isListening: false, settings: settings,
            counters: counters, accept: { $0.refuse($1) }, packet: { _, _, _ in })
    }

    /// Runs QUIC over a socket made by `bind`. In-loop only.
    init(
        loop: EventLoop, over bound: DatagramSocket, isListening: Bool, in group: QUICSocketGroup? = nil,
        index: Int = 0,
        settings: QUICSettings, counters: NodeCounters,
        accept: @escaping @Sendable (QUICSocket, QUICConnection) -> Void,
        packet: @escaping @Sendable (QUICSocket, [UInt8], SocketAddress) -> Void
    ) {
        // Only Unix sockets have no such address, and those are not asked for.
        let local = bound.localAddress.quicAddress ?? QUICAddress(.v4(.any), port: bound.localAddress.port)
        socket = bound
        address = bound.localAddress
        room = .allocate(byteCount: DatagramBatch.room, alignment: 64)
        self.loop = loop
        self.isListening = isListening
        self.group = group
        self.index = index
        handover = QUICHandover(loop: loop)
        self.counters = counters
        self.accept = accept
        self.packet = packet
        endpoint = QUICEndpoint(
            identity: settings.identity, localAddress: local, group: group?.endpoints, index: index,
            configuration: settings.configuration, connection: settings.connection, budget: settings.budget,
            pool: settings.pool, random: .system,
            now: loop.now, wallTime: .systemNow())
        super.init()
        socket.delegate = self
        settings.buffers.opened(with: bound.kernelBuffers)
        handover.socket = self
        group?.add(self, at: index)
    }

    deinit { room.deallocate() }

    // MARK: Connections

    func connect(to target: QUICAddress, expecting: PeerID?) throws(QUICDialError) -> QUICConnection {
        try endpoint.connect(to: target, expecting: expecting, now: loop.now)
    }

    func add(_ driver: QUICConnectionDriver) { drivers[ObjectIdentifier(driver.muxer)] = driver }

    func remove(_ driver: QUICConnectionDriver) {
        drivers[ObjectIdentifier(driver.muxer)] = nil
        closeIfIdle()
    }

    /// Sends a connection away that has no driver yet.
    func refuse(_ connection: QUICConnection) {
        connection.refuse(now: loop.now)
        if let batch = connection.transmit(into: room, now: loop.now) { _ = send(batch) }
        closeIfIdle()
    }

    /// Takes no new connections and closes when the last one is gone. The first of a group has all of them do so.
    func closeWhenIdle() {
        guard !isClosing else { return }
        isClosing = true
        closeIfIdle()
        guard index == 0, let group else { return }
        for other in group.members where other !== self { other.loop.execute { other.closeWhenIdle() } }
    }

    private func closeIfIdle() {
        // What the last connection still has to say goes out first.
        if isClosing, drivers.isEmpty { loop.atEndOfTurn(self) }
    }

    // MARK: Receiving

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        datagramsReceived(region, size: region.count, from: address)
    }

    func datagramsReceived(_ region: ReceivedRegion, size: Int, from address: SocketAddress) {
        guard let from = address.quicAddress else { return }
        counters.bytesReceived.increment(by: region.count)
        if takePackets(region, size, address) { return }
        endpoint.receive(UnsafeRawBufferPointer(region.mutableBytes), datagramSize: size, from: from, now: loop.now)
    }

    /// Takes what came to another socket of the group. `datagramBatchEnded` follows.
    func received(_ datagram: ForwardedDatagram) { endpoint.receive(datagram, now: loop.now) }

    /// Takes datagrams without the bit that all of QUIC's have (RFC 9000, 17.2 and 17.3). The kernel joins datagrams of one sender,
    /// of which the last may be shorter and of another kind. Returns whether nothing of QUIC's is among them.
    private func takePackets(_ region: ReceivedRegion, _ size: Int, _ address: SocketAddress) -> Bool {
        let bytes = region.mutableBytes
        guard let first = bytes.first, size > 0 else { return true }
        let tail = (bytes.count - 1) / size * size
        guard first & 0x40 == 0 || bytes[tail] & 0x40 == 0 else { return false }
        var start = 0
        while start < bytes.count {
            let end = min(start + size, bytes.count)
            if bytes[start] & 0x40 == 0 { take(Array(bytes[start..<end]), address) }
            start = end
        }
        return first & 0x40 == 0
    }

    /// Takes a datagram that is not QUIC's. Others than the first of a group get one only behind those of QUIC that the kernel joined
    /// it to.
    func take(_ bytes: [UInt8], _ address: SocketAddress) {
        guard bytes.count <= Self.packetByteCountLimit, let ip = address.ipAddress else { return }
        if let group, index != 0 { return group.forward(packet: Bytes(bytes), from: address) }
        if isListening {
            let from = TransportAddress(ip, port: address.port)
            if let answer = responder.answer(
                bytes, from: from, other: stun?.otherAddress, alternate: stun?.alternateAddress, now: loop.now)
            {
                if stun?.send(answer, to: address) != true { send(packet: answer.bytes, to: address) }
                return
            }
        }
        if loop.now - packetWindow >= .seconds(1) {
            packetWindow = loop.now
            packetCount = 0
        }
        guard packetCount < Self.packetsPerSecond else { return }
        packetCount += 1
        packet(self, bytes, address)
    }

    /// Sends a datagram that is not QUIC's.
    func send(packet: [UInt8], to address: SocketAddress) {
        // A full queue drops what may be lost anyway.
        try? socket.send(Bytes(packet), to: address)
    }

    func datagramBatchEnded() {
        while let connection = endpoint.nextAccepted() {
            if isClosing { refuse(connection) } else { accept(self, connection) }
        }
        while let datagram = endpoint.nextForward() { group?.forward(datagram) }
        while let connection = endpoint.nextTouched() { drivers[ObjectIdentifier(connection)]?.served() }
        while let (bytes, address) = endpoint.nextAnswer() {
            // A full queue drops what may be lost anyway.
            try? socket.send(bytes, to: SocketAddress(address))
        }
        endpoint.release()
    }

    func datagramSocketClosed(_ error: SocketError?) {
        group?.remove(at: index)
        let reason = error.map { "\($0)" } ?? "the UDP socket was closed"
        for driver in drivers.values.sorted(by: { $0.id < $1.id }) { driver.transportClosed(reason) }
    }

    // MARK: Sending

    func setNeedsFlush(_ driver: QUICConnectionDriver) {
        guard !driver.isSending else { return }
        driver.isSending = true
        sending.append(driver)
        loop.atEndOfTurn(self)
    }

    func datagramQueueHasRoom() { loop.atEndOfTurn(self) }

    override func run() {
        if let (bytes, batch) = blocked {
            blocked = nil
            guard bytes.withUnsafeBytes({ send($0, batch) }) else { return }
        }
        // Those that come back into line wait for the next turn.
        for _ in 0..<sending.count {
            guard let driver = sending.popFirst() else { break }
            driver.isSending = false
            guard transmit(driver) else { break }
        }
        if isClosing, drivers.isEmpty, sending.isEmpty, blocked == nil { socket.close() }
    }

    /// Returns false when the kernel has no more room.
    private func transmit(_ driver: QUICConnectionDriver) -> Bool {
        var hasRoom = true
        var count = 0
        while hasRoom, driver.muxer.hasPendingTransmit, count < Self.batchesPerTurn,
            let batch = driver.muxer.transmit(into: room, now: loop.now)
        {
            count += 1
            hasRoom = send(batch)
        }
        if !driver.isClosed { driver.served() }
        if driver.muxer.hasPendingTransmit { setNeedsFlush(driver) }
        return hasRoom
    }

    private func send(_ batch: DatagramBatch) -> Bool {
        send(UnsafeRawBufferPointer(rebasing: room[0..<batch.byteCount]), batch)
    }

    private func send(_ bytes: UnsafeRawBufferPointer, _ batch: DatagramBatch) -> Bool {
        if socket.sendNow(bytes, size: batch.datagramSize, to: SocketAddress(batch.destination)) {
            counters.bytesSent.increment(by: bytes.count)
            return true
        }
        // The packets are counted as sent, so they must not be lost here.
        blocked = (Bytes(copying: bytes), batch)
        return false
    }
}
