import MartletCore
import MartletReachability

/// What comes from a gateway, or from somebody who sends in its name: the first byte chooses between answers of PCP to requests or
/// to the question whether it is spoken, cut into datagrams of up to 64 bytes, an announcement, and a routing table.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 0 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: data + 1, count: size - 1))
    switch data[0] % 4 {
    case 0: answers(input)
    case 1:
        _ = RoutingTable.defaultGateway(in: input)
        for address in RoutingTable.globalAddresses(in: input) {
            _ = RoutingTable.defaultGateway(in: input, by: address.interface)
        }
    case 2: _ = try? GatewayAnnouncement(input.span.bytes)
    default: probe(input)
    }
    return 0
}

private func answers(_ input: [UInt8]) {
    let start = Instant(nanoseconds: 0)
    let requests = [
        PortMappingRequest(target: .init(isTCP: true, port: 4001), externalPort: 4001, lifetime: 3600),
        PortMappingRequest(target: .init(isTCP: false, port: 4001), externalPort: 4001, lifetime: 0),
    ]
    var exchange = PCPExchange(
        requests, nonces: [[UInt8](repeating: 1, count: 12), [UInt8](repeating: 2, count: 12)],
        client: .v4(IPv4Address(192, 168, 1, 2)), now: start)
    var rest = input[...]
    while !rest.isEmpty {
        let datagram = Array(rest.prefix(64))
        rest = rest.dropFirst(64)
        exchange.received(datagram.span.bytes)
    }
    while let deadline = exchange.deadline { _ = exchange.datagrams(now: deadline) }
    guard exchange.isOver else { fatalError("it does not end") }
    if case .success(let answers) = exchange.result, answers.count > requests.count {
        fatalError("more answers than requests")
    }
}

private func probe(_ input: [UInt8]) {
    var exchange = PCPExchange(probingFor: .v4(IPv4Address(192, 168, 1, 2)), now: Instant(nanoseconds: 0))
    exchange.received(input.span.bytes)
    while let deadline = exchange.deadline { _ = exchange.datagrams(now: deadline) }
    guard exchange.isOver else { fatalError("it does not end") }
    if case .success(let answers) = exchange.result, !answers.isEmpty { fatalError("answers to no request") }
}
