import DequeModule
import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport

@testable import MartletQUIC

/// Endpoints that share an address, and others that dial it; nothing is lost and nothing takes time.
final class QUICGroupHarness {
    static let port: UInt16 = 1002

    let key: KeyPair
    let group: QUICEndpointGroup
    private(set) var members: [QUICSide] = []
    private(set) var clients: [QUICSide] = []
    private var connections: [(side: QUICSide, connection: QUICConnection)] = []
    /// Connections that each member has accepted.
    private(set) var accepted: [[QUICConnection]]
    let now = Instant(nanoseconds: 1_000_000_000)
    /// Which member gets a datagram: as the kernel chooses, unless a test says otherwise.
    var route: (_ datagram: [UInt8], _ count: Int) -> Int = QUICGroupHarness.kernel
    /// Datagrams that were handed from one member to another.
    private(set) var forwardCount = 0
    /// What the members said that is of no connection.
    private(set) var answers: [[UInt8]] = []
    private var datagrams = Deque<(bytes: [UInt8], from: QUICAddress, to: QUICAddress)>()
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramBatch.room, alignment: 16)

    init(count: Int, configuration: QUICConfiguration = .init(), key: KeyPair? = nil) {
        var random = RandomSource(seed: 5)
        let key = key ?? KeyPair(random: &random)
        let group = QUICEndpointGroup(count: count, random: &random)
        self.key = key
        self.group = group
        accepted = [[QUICConnection]](repeating: [], count: count)
        members = (0..<count).map { [now] index in
            QUICSide(
                100 + UInt64(index), port: Self.port, now: now, configuration: configuration, key: key, group: group,
                index: index)
        }
    }

    deinit { room.deallocate() }

    /// Chooses as the program does that is given to the kernel.
    static func kernel(_ datagram: [UInt8], _ count: Int) -> Int {
        guard let first = datagram.first, first & 0x40 != 0 else { return 0 }
        if first & 0x80 == 0 { return datagram.count > 1 ? Int(datagram[1]) % count : 0 }
        return datagram.count > 6 && datagram[5] > 0 ? Int(datagram[6]) % count : 0
    }

    /// Begins a connection from a new port.
    func dial(_ number: UInt64) throws -> QUICConnection {
        let side = QUICSide(number, port: 2000 + UInt16(number), now: now)
        clients.append(side)
        let connection = try side.endpoint.connect(to: members[0].address, expecting: key.peerID, now: now)
        connections.append((side, connection))
        return connection
    }

    /// Begins a connection from a member to a client's port.
    func dial(from index: Int, to side: QUICSide) throws -> QUICConnection {
        if !clients.contains(where: { $0 === side }) { clients.append(side) }
        let connection = try members[index].endpoint.connect(to: side.address, expecting: side.key.peerID, now: now)
        connections.append((members[index], connection))
        return connection
    }

    func give(_ bytes: [UInt8], from port: UInt16, to index: Int, now: Instant? = nil) {
        bytes.withUnsafeBytes {
            members[index].endpoint.receive(
                $0, datagramSize: max(1, $0.count), from: QUICAddress(.v4(.loopback), port: port), now: now ?? self.now)
        }
        collect()
    }

    /// Takes from the members what others are to have.
    private func collect() {
        for side in members {
            while let datagram = side.endpoint.nextForward() {
                forwardCount += 1
                members[datagram.member].endpoint.receive(datagram, now: now)
                collect()
            }
            while let connection = side.endpoint.nextAccepted() {
                accepted[side.endpoint.member.index].append(connection)
                connections.append((side, connection))
            }
            while side.endpoint.nextTouched() != nil {}
        }
    }

    /// What connections want to send now, without sending it.
    func pending(_ connection: QUICConnection) -> [[UInt8]] {
        var all: [[UInt8]] = []
        while connection.hasPendingTransmit, let batch = connection.transmit(into: room, now: now) {
            for start in stride(from: 0, to: batch.byteCount, by: batch.datagramSize) {
                all.append(Array(room[start..<min(start + batch.datagramSize, batch.byteCount)]))
            }
        }
        return all
    }

    /// Delivers until nobody has anything to say.
    func settle() {
        for _ in 0..<200 {
            for (side, connection) in connections {
                for bytes in pending(connection) { datagrams.append((bytes, side.address, connection.remoteAddress)) }
            }
            for side in members + clients {
                while let (bytes, address) = side.endpoint.nextAnswer() {
                    if side.address.port == Self.port { answers.append(bytes.array) }
                    datagrams.append((bytes.array, side.address, address))
                }
            }
            guard !datagrams.isEmpty else { return }
            while let datagram = datagrams.popFirst() { deliver(datagram.bytes, datagram.from, datagram.to) }
        }
    }

    private func deliver(_ bytes: [UInt8], _ from: QUICAddress, _ to: QUICAddress) {
        if to.port == Self.port {
            return give(bytes, from: from.port, to: route(bytes, members.count))
        }
        guard let side = clients.first(where: { $0.address == to }) else { return }
        bytes.withUnsafeBytes { side.endpoint.receive($0, datagramSize: $0.count, from: from, now: now) }
        while let connection = side.endpoint.nextAccepted() { connections.append((side, connection)) }
        while side.endpoint.nextTouched() != nil {}
    }
}
