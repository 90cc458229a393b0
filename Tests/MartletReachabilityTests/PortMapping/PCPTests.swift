import MartletCore
import Testing

@testable import MartletReachability

private let nonce: [UInt8] = Array(1...12)
private let client = IPAddress.v4(IPv4Address(192, 168, 1, 2))
private let udp = PortMappingTarget(isTCP: false, port: 4001)
private let request = PortMappingRequest(target: udp, externalPort: 4001, lifetime: 3600)

private func milliseconds(_ value: Int64) -> Instant { Instant(nanoseconds: value * 1_000_000) }

/// An answer of a gateway that gives port 40000 at 11.7.0.9 for an hour.
private func response(
    version: UInt8 = 2, opcode: UInt8 = 0x81, result: UInt8 = 0, nonce: [UInt8] = nonce, transport: UInt8 = 17,
    port: [UInt8] = [0x0F, 0xA1]
) -> [UInt8] {
    [version, opcode, 0, result, 0, 0, 0x0E, 0x10, 0, 0, 0, 77] + [UInt8](repeating: 0, count: 12) + nonce
        + [transport, 0, 0, 0] + port + [0x9C, 0x40] + [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 11, 7, 0, 9]
}

private func exchange() -> PCPExchange {
    PCPExchange([request], nonces: [nonce], client: client, now: milliseconds(0))
}

@Test func aRequestIsThatOfTheRFC() {
    let bytes = PCPMessage.request(request, nonce: nonce, client: client)
    let expected: [UInt8] =
        [2, 1, 0, 0, 0, 0, 0x0E, 0x10] + [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 192, 168, 1, 2] + nonce
        + [17, 0, 0, 0, 0x0F, 0xA1, 0x0F, 0xA1] + [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 0, 0, 0, 0]
    #expect(bytes == expected)
    #expect(bytes.count == 60)
}

@Test func anAnswerIsTaken() throws {
    var run = exchange()
    #expect(run.datagrams(now: milliseconds(0)).count == 1)
    run.received(response().span.bytes)
    #expect(run.isOver)
    #expect(run.deadline == nil)
    #expect(run.externalAddress == .v4(IPv4Address(11, 7, 0, 9)))
    #expect(run.epoch == 77)
    let answers = try run.result.get()
    #expect(answers.map(\.0) == [request])
    #expect(answers.map(\.1) == [.mapped(externalPort: 40_000, lifetime: 3600)])
}

@Test func anUnansweredRequestIsRepeatedAndGivenUpAfterLessThanTwoSeconds() {
    var run = exchange()
    var sent: [Int64] = []
    while let deadline = run.deadline {
        if !run.datagrams(now: deadline).isEmpty { sent.append(deadline.nanoseconds / 1_000_000) }
    }
    #expect(sent == [0, 250, 750])
    guard case .failure(let failure) = run.result else {
        Issue.record("it did not fail")
        return
    }
    #expect(failure.description == "the gateway does not answer PCP")
}

@Test func aGatewayThatSpeaksNATPMPAloneIsLeftAtOnce() {
    var run = exchange()
    _ = run.datagrams(now: milliseconds(0))
    run.received([0, 0x81, 0, 1, 0, 0, 0, 77].span.bytes)
    #expect(run.isOver)
    guard case .failure = run.result else {
        Issue.record("it did not fail")
        return
    }
}

@Test func aRefusalSaysWhy() throws {
    var run = exchange()
    _ = run.datagrams(now: milliseconds(0))
    run.received(response(result: 8).span.bytes)
    #expect(try run.result.get().map(\.1) == [.failed("the gateway has no more ports to forward")])
}

/// What answers nothing that was asked: another nonce, port, protocol, a request, another version, noise.
@Test(arguments: [
    response(nonce: Array(2...13)), response(transport: 6), response(transport: 99), response(port: [1, 1]),
    response(opcode: 1), response(opcode: 0x82), response(version: 1), [], [2], Array(response().dropLast()),
    response() + [UInt8](repeating: 0, count: 1100),
])
func whatAnswersNothingIsIgnored(_ datagram: [UInt8]) {
    var run = exchange()
    _ = run.datagrams(now: milliseconds(0))
    run.received(datagram.span.bytes)
    #expect(!run.isOver)
    run.received(response().span.bytes)
    #expect(run.isOver)
}

@Test func whatWasAnsweredBeforeTheGatewayFellSilentCounts() throws {
    let tcp = PortMappingRequest(
        target: PortMappingTarget(isTCP: true, port: 4001), externalPort: 4001, lifetime: 3600)
    var run = PCPExchange(
        [request, tcp], nonces: [nonce, Array(20...31)], client: client, now: milliseconds(0))
    #expect(run.datagrams(now: milliseconds(0)).count == 2)
    run.received(response().span.bytes)
    #expect(run.datagrams(now: milliseconds(250)).count == 1)
    while let deadline = run.deadline { _ = run.datagrams(now: deadline) }
    #expect(try run.result.get().map(\.0) == [request])
}

/// What a gateway answers to ANNOUNCE: one that knows it, and one that does not.
private func announcement(version: UInt8 = 2, opcode: UInt8 = 0x80, result: UInt8 = 0, epoch: UInt8 = 77) -> [UInt8] {
    [version, opcode, 0, result, 0, 0, 0, 0, 0, 0, 0, epoch] + [UInt8](repeating: 0, count: 12)
}

@Test(arguments: [UInt8(0), 4])
func anyAnswerOfPCPShowsThatTheGatewaySpeaksIt(_ code: UInt8) throws {
    var run = PCPExchange(probingFor: client, now: milliseconds(0))
    let question: [UInt8] = [2, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 192, 168, 1, 2]
    #expect(run.datagrams(now: milliseconds(0)) == [question])
    run.received(announcement(opcode: 0).span.bytes)
    run.received(announcement(version: 1).span.bytes)
    run.received(Array(announcement().dropLast()).span.bytes)
    #expect(!run.isOver)
    run.received(announcement(result: code).span.bytes)
    #expect(run.isOver)
    #expect(run.epoch == 77)
    #expect(try run.result.get().isEmpty)
}

@Test func aGatewayThatDoesNotAnswerTheQuestionIsGivenUp() {
    var run = PCPExchange(probingFor: client, now: milliseconds(0))
    while let deadline = run.deadline { _ = run.datagrams(now: deadline) }
    guard case .failure = run.result else {
        Issue.record("it did not fail")
        return
    }
    var other = PCPExchange(probingFor: client, now: milliseconds(0))
    _ = other.datagrams(now: milliseconds(0))
    other.received([0, 0x80, 0, 1, 0, 0, 0, 77].span.bytes)
    #expect(other.isOver)
}

@Test func whatAGatewayAnnouncesIsRead() throws {
    let pcp = try GatewayAnnouncement(announcement(epoch: 3).span.bytes)
    #expect(pcp.method == .pcp)
    #expect(pcp.epoch == 3)
    let natPMP = try GatewayAnnouncement(([0, 0x80, 0, 0, 0, 0, 1, 0, 11, 7, 0, 9] as [UInt8]).span.bytes)
    #expect(natPMP.method == .natPMP)
    #expect(natPMP.epoch == 256)
}

@Test(arguments: [
    [], [2], [0, 0x80], announcement(opcode: 0), announcement(opcode: 0x81), announcement(version: 3),
    Array(announcement().dropLast()), [0, 0x80, 0, 3, 0, 0, 1, 0, 11, 7, 0, 9], [0, 0x80, 0, 0, 0, 0, 1, 0, 11, 7, 0],
    announcement() + [UInt8](repeating: 0, count: 1100),
])
func whatIsNoAnnouncementIsRefused(_ datagram: [UInt8]) {
    #expect(throws: DecodingError.self) { _ = try GatewayAnnouncement(datagram.span.bytes) }
}

@Test func theGatewayIsThatOfTheBestDefaultRoute() {
    let table = """
        Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
        wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
        eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
        tun0\t00000000\t0900000A\t0002\t0\t0\t1\t00000000\t0\t0\t0
        """
    #expect(RoutingTable.defaultGateway(in: Array(table.utf8)) == IPv4Address(192, 0, 2, 1))
    #expect(RoutingTable.defaultGateway(in: []) == nil)
    #expect(RoutingTable.defaultGateway(in: Array("a\nb c d e f g h i\n\n\t\t\t".utf8)) == nil)
}

// MARK: IPv6

private let own = IPv6Address(high: 0x2600_0007_0110_0000, low: 0x10)
private let ownBytes: [UInt8] = [0x26, 0, 0, 7, 1, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]

@Test func aPinholeIsAskedForByTheOwnAddressOnBothSides() {
    let bytes = PCPMessage.request(request, nonce: nonce, client: .v6(own))
    let expected: [UInt8] =
        [2, 1, 0, 0, 0, 0, 0x0E, 0x10] + ownBytes + nonce + [17, 0, 0, 0, 0x0F, 0xA1, 0x0F, 0xA1] + ownBytes
    #expect(bytes == expected)
    #expect(PCPMessage.announce(client: .v6(own)) == [2, 0, 0, 0, 0, 0, 0, 0] + ownBytes)
}

/// What miniupnpd 2.3.1 answers.
@Test func aPinholeIsTakenFromTheAnswer() throws {
    var run = PCPExchange([request], nonces: [nonce], client: .v6(own), now: milliseconds(0))
    #expect(run.datagrams(now: milliseconds(0)).count == 1)
    let answer: [UInt8] =
        [2, 0x81, 0, 0, 0, 0, 0x0E, 0x10, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 12) + nonce
        + [17, 0, 0, 0, 0x0F, 0xA1, 0x0F, 0xA1] + ownBytes
    run.received(answer.span.bytes)
    #expect(run.isOver)
    #expect(run.externalAddress == .v6(own))
    #expect(try run.result.get().map(\.1) == [.mapped(externalPort: 4001, lifetime: 3600)])
}

@Test func theGatewayOfAnInterfaceIsFoundAmongRoutesOfIPv6() {
    let none = String(repeating: "0", count: 32)
    func line(
        _ destination: String, _ prefix: String, _ gateway: String, _ metric: String, _ flags: String, _ name: String
    )
        -> String
    {
        "\(destination) \(prefix) \(none) 00 \(gateway) \(metric) 00000003 00000000 \(flags)     \(name)"
    }
    let near = "fe800000000000000000000000000001"
    let table = [
        line("26000007011000000000000000000000", "40", none, "00000100", "00000001", "eth0"),
        line(none, "00", "fe800000000000000000000000000002", "00000400", "00000003", "eth0"),
        line(none, "00", near, "00000200", "00000003", "eth0"),
        line(none, "00", "fe800000000000000000000000000003", "00000001", "00000003", "wlan0"),
        line(none, "00", none, "ffffffff", "00200200", "lo"),
    ].joined(separator: "\n")
    let found = RoutingTable.defaultGateway(in: Array(table.utf8), by: "eth0")
    #expect(found == IPv6Address(high: 0xFE80_0000_0000_0000, low: 1))
    #expect(RoutingTable.defaultGateway(in: Array(table.utf8), by: "lo") == nil)
    #expect(RoutingTable.defaultGateway(in: Array("a b c\n\(near)".utf8), by: "eth0") == nil)
}

@Test func addressesOfIPv6ThatOthersMaySendToAreFound() {
    let table = """
        26000007011000000000000000000011 02 40 00 01     eth0
        26000007011000000000000000000010 02 40 00 80     eth0
        26000007011000000000000000000012 02 40 00 21     eth0
        26000007011000000000000000000013 02 40 00 c0     eth0
        00000000000000000000000000000001 01 80 10 80       lo
        fe8000000000000000fc00fffe000001 02 40 20 80     eth0
        fd000000000000000000000000000002 02 40 00 80     eth0
        2600000701100000
        """
    let found = RoutingTable.globalAddresses(in: Array(table.utf8))
    #expect(found.map(\.address) == [own, IPv6Address(high: own.high, low: 0x11)])
    #expect(found.map(\.isTemporary) == [false, true])
    #expect(found.allSatisfy { $0.interface == "eth0" })
}
