import DequeModule
import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport

@testable import MartletQUIC

/// One end: an endpoint, and the address at which the other finds it.
final class QUICSide {
    let key: KeyPair
    let endpoint: QUICEndpoint
    let address: QUICAddress

    init(
        _ number: UInt64, port: UInt16, now: Instant, configuration: QUICConfiguration = .init(),
        connection: ConnectionConfiguration = .init(), budget: WindowBudget? = nil,
        wallTime: WallTime = QUICSide.wallTime, key: KeyPair? = nil, group: QUICEndpointGroup? = nil, index: Int = 0
    ) {
        var random = RandomSource(seed: number)
        self.key = key ?? KeyPair(random: &random)
        address = QUICAddress(.v4(.loopback), port: port)
        let identity = QUICIdentity(identity: self.key, wallTime: wallTime, random: &random)
        endpoint = QUICEndpoint(
            identity: identity, localAddress: address, group: group, index: index, configuration: configuration,
            connection: connection, budget: budget, pool: BufferPool(blockSize: 256 * 1024, idleLimit: 8),
            random: random.split(), now: now,
            wallTime: wallTime)
    }

    static let wallTime = WallTime(nanosecondsSince1970: 1_800_000_000_000_000_000)
}

/// Two connections joined by a network of datagrams, which takes time and loses what the test says.
final class QUICHarness: MuxerHarness {
    struct Datagram {
        var bytes: [UInt8]
        let from: QUICAddress
        let to: QUICAddress
        let arrival: Instant
    }

    let client: QUICSide
    let server: QUICSide
    let dialer: MuxerEndpoint
    private(set) var accepted: [MuxerEndpoint] = []
    var listener: MuxerEndpoint { accepted[0] }
    private(set) var now = Instant(nanoseconds: 1_000_000_000)
    var delay = Duration.microseconds(50)
    /// Whether a datagram is lost; asked once for each.
    var isLost: (Datagram) -> Bool = { _ in false }
    /// What becomes of a datagram on its way.
    var change: (inout Datagram) -> Void = { _ in }
    /// The longest datagram that the first link of either side carries; the kernel refuses a batch with a longer one as a whole.
    var longestDatagram = Int.max
    /// What limits the network; nil for nothing but `delay`.
    var link: QUICLink?
    private(set) var sentCount = 0
    private var flying = Deque<Datagram>()
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramBatch.room, alignment: 16)

    /// - Parameter expecting: nil for the server's real peer id.
    init(
        clientConnection: ConnectionConfiguration = .init(), serverConnection: ConnectionConfiguration = .init(),
        clientConfiguration: QUICConfiguration = .init(), serverConfiguration: QUICConfiguration = .init(),
        budget: WindowBudget? = nil, expecting: PeerID? = nil
    ) throws {
        client = QUICSide(
            1, port: 1001, now: now, configuration: clientConfiguration, connection: clientConnection)
        server = QUICSide(
            2, port: 1002, now: now, configuration: serverConfiguration, connection: serverConnection, budget: budget)
        dialer = MuxerEndpoint(
            try client.endpoint.connect(to: server.address, expecting: expecting ?? server.key.peerID, now: now))
    }

    deinit { room.deallocate() }

    /// A pair that is established and at rest.
    static func established(
        clientConnection: ConnectionConfiguration = .init(), serverConnection: ConnectionConfiguration = .init(),
        budget: WindowBudget? = nil
    ) throws -> QUICHarness {
        let pair = try QUICHarness(
            clientConnection: clientConnection, serverConnection: serverConnection, budget: budget)
        pair.settle()
        guard pair.dialer.remote != nil, !pair.accepted.isEmpty, pair.listener.remote != nil else {
            throw NotEstablished(reasons: pair.dialer.closeReasons)
        }
        return pair
    }

    func step() -> Bool {
        now = now + .microseconds(10)
        var moved = send()
        moved = deliver() || moved
        if moved || !flying.isEmpty {
            if let first = flying.first, !moved { now = max(now, first.arrival) }
            return true
        }
        // What is timed closely (acknowledgements, pacing) belongs to the flow; keep-alives do not.
        guard let next = nextDeadline, next <= now + .milliseconds(30) else { return false }
        now = max(now, next)
        return timeOut() || send()
    }

    func advance(by time: Duration) {
        let end = now + time
        while let next = nextDeadline, next <= end {
            now = max(now, next)
            _ = timeOut()
            while send() || deliver() || !flying.isEmpty { now = now + .microseconds(10) }
        }
        now = max(now, end)
    }

    var connections: [QUICConnection] {
        ([dialer] + accepted).compactMap { $0.connection as? QUICConnection }
    }

    private var nextDeadline: Instant? { connections.compactMap(\.deadline).min() }

    private func timeOut() -> Bool {
        var any = false
        for connection in connections {
            guard let deadline = connection.deadline, deadline <= now else { continue }
            connection.handleTimeout(now: now)
            any = true
        }
        drain()
        return any
    }

    private func drain() {
        dialer.drain(now: now)
        for endpoint in accepted { endpoint.drain(now: now) }
    }

    private func send() -> Bool {
        drain()
        var any = false
        for (side, connection) in connections.map({ ($0.role == .dialer ? client : server, $0) }) {
            while connection.hasPendingTransmit, let batch = connection.transmit(into: room, now: now) {
                any = true
                guard batch.datagramSize <= longestDatagram else { continue }
                var start = 0
                while start < batch.byteCount {
                    let end = min(start + batch.datagramSize, batch.byteCount)
                    put(Array(room[start..<end]), from: side.address, to: batch.destination)
                    start = end
                }
            }
        }
        for side in [client, server] {
            while let (bytes, address) = side.endpoint.nextAnswer() {
                any = true
                put(bytes.array, from: side.address, to: address)
            }
        }
        drain()
        return any
    }

    func put(_ bytes: [UInt8], from: QUICAddress, to: QUICAddress) {
        var datagram = Datagram(bytes: bytes, from: from, to: to, arrival: now + delay)
        sentCount += 1
        guard !isLost(datagram) else { return }
        if let link {
            guard let arrival = link.arrival(of: datagram.bytes.count, toServer: to == server.address, now: now) else {
                return
            }
            datagram = Datagram(bytes: bytes, from: from, to: to, arrival: arrival)
        }
        change(&datagram)
        var index = flying.count
        while index > 0, flying[index - 1].arrival > datagram.arrival { index -= 1 }
        flying.insert(datagram, at: index)
    }

    /// Lets time pass from one event to the next, until it is over or `isDone` holds.
    func run(for time: Duration, until isDone: () -> Bool) {
        let end = now + time
        while !isDone() {
            while send() {}
            guard let next = [nextDeadline, flying.first?.arrival].compactMap({ $0 }).min(), next <= end else { break }
            now = max(now, next)
            if !deliver() { _ = timeOut() }
        }
    }

    private func deliver() -> Bool {
        var any = false
        while let first = flying.first, first.arrival <= now {
            flying.removeFirst()
            any = true
            let side = first.to == server.address ? server : client
            // A datagram from another port of the client is answered there.
            first.bytes.withUnsafeBytes {
                side.endpoint.receive($0, datagramSize: $0.count, from: first.from, now: now)
            }
            while let connection = side.endpoint.nextAccepted() { accepted.append(MuxerEndpoint(connection)) }
            while side.endpoint.nextTouched() != nil {}
        }
        if any { drain() }
        return any
    }
}

struct NotEstablished: Error {
    let reasons: [ConnectionCloseReason]
}
