import MartletCore
import MartletReachability

/// What servers and strangers send to a discovery of NATs: the input is cut into datagrams of 56 bytes, each behind a byte that says
/// where it comes from and which question it answers. Whatever comes, few packets are sent, and it ends.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var input = Array(UnsafeBufferPointer(start: data, count: size))[...]
    let server = TransportAddress(.v4(IPv4Address(11, 7, 1, 1)), port: 4001)
    let places = [
        server, TransportAddress(server.ip, port: 5001), TransportAddress(.v4(IPv4Address(11, 7, 2, 1)), port: 5002),
    ]
    var discovery = NATBehaviorDiscovery(
        servers: [server], ports: [.mapping: 50_000, .filtering: 50_001],
        localAddresses: [.v4(IPv4Address(192, 168, 1, 2))], random: RandomSource(seed: 1))
    var now = Instant(nanoseconds: 0)
    var questions: [NATBehaviorDiscovery.Order] = []
    func drain() {
        while let order = discovery.nextOrder() {
            questions.append(order)
            guard order.bytes.count <= 28 else { fatalError("a question of \(order.bytes.count) bytes") }
        }
        guard questions.count <= 64 else { fatalError("\(questions.count) packets were sent") }
    }
    discovery.start(now: now)
    drain()
    while let choice = input.popFirst(), !questions.isEmpty {
        var datagram = Array(input.prefix(56))
        input = input.dropFirst(56)
        let question = questions[Int(choice) / 4 % questions.count]
        // Nobody guesses a transaction id; who answers says it again.
        if datagram.count >= 20 { datagram.replaceSubrange(8..<20, with: question.bytes[8..<20]) }
        discovery.received(
            datagram, from: places[Int(choice) % places.count], on: choice & 64 == 0 ? question.socket : .mapping,
            now: now)
        drain()
    }
    while let deadline = discovery.deadline {
        now = deadline
        discovery.handleTimeout(now: now)
        drain()
    }
    guard discovery.isOver else { fatalError("it does not end") }
    _ = discovery.behavior
    return 0
}
