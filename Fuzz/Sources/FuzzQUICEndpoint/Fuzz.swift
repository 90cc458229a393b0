import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC

private let start = Instant(nanoseconds: 1_000_000_000)
private let wallTime = WallTime(nanosecondsSince1970: 1_800_000_000_000_000_000)
private let address = QUICAddress(.v4(.loopback), port: 1)

private let identity: QUICIdentity = {
    var random = RandomSource(seed: 1)
    return QUICIdentity(identity: KeyPair(random: &random), wallTime: wallTime, random: &random)
}()
private let pool = BufferPool(blockSize: 65_536, idleLimit: 2)

/// An endpoint fed by somebody who has no key, and a dialer that hears only him: nobody becomes established, answers and
/// connections stay within their limits. The input is a row of datagrams, each with its length in two bytes in front; with the second bit
/// of its first byte, they come to two endpoints that share the address in turn, and what is handed over comes to an end.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var configuration = QUICConfiguration()
    configuration.maximumHandshakes = 4
    configuration.retryThreshold = 2
    var random = RandomSource(seed: 3)
    let group = QUICEndpointGroup(count: size > 0 && data[0] & 2 == 2 ? 2 : 1, random: &random)
    let endpoints = (0..<group.count).map { index in
        QUICEndpoint(
            identity: identity, localAddress: address, group: group, index: index, configuration: configuration,
            budget: nil, pool: pool, random: RandomSource(seed: 2 + UInt64(index)), now: start, wallTime: wallTime)
    }
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
    defer { room.deallocate() }
    var connections: [QUICConnection] = []
    if size > 0, data[0] & 1 == 1, let dialer = try? endpoints[0].connect(to: address, expecting: nil, now: start) {
        connections.append(dialer)
        _ = dialer.transmit(into: room, now: start)
    }
    var now = start
    var position = 1
    var turn = 0
    while position + 2 <= size {
        let count = min(Int(data[position]) | Int(data[position + 1] & 0x07) << 8, size - position - 2)
        position += 2
        let datagram = UnsafeRawBufferPointer(start: data + position, count: count)
        position += count
        now = now + .milliseconds(1)
        endpoints[turn % group.count].receive(datagram, datagramSize: max(1, count), from: address, now: now)
        turn += 1
        // From the first to the second, which asks the first, and back for an answer.
        var forwardCount = 0
        while forwardCount <= 2 * group.count {
            let before = forwardCount
            for endpoint in endpoints {
                while let datagram = endpoint.nextForward() {
                    forwardCount += 1
                    endpoints[datagram.member].receive(datagram, now: now)
                }
            }
            if forwardCount == before { break }
        }
        guard forwardCount <= 2 * group.count else { fatalError("a datagram goes around") }
        for endpoint in endpoints {
            while let accepted = endpoint.nextAccepted() { connections.append(accepted) }
            while endpoint.nextTouched() != nil {}
            while endpoint.nextAnswer() != nil {}
        }
        for connection in connections {
            while connection.hasPendingTransmit, connection.transmit(into: room, now: now) != nil {}
            while let event = connection.nextEvent() {
                if case .established = event { fatalError("established without a key") }
            }
        }
        let counts = endpoints.map { ($0.handshakeCount, $0.connectionCount) }
        guard counts.map(\.0).reduce(0, +) <= 4, counts.map(\.1).reduce(0, +) <= 5 else {
            fatalError("too many connections")
        }
    }
    return 0
}
