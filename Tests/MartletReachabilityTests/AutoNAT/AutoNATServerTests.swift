import MartletCore
import MartletIdentity
import Testing

@testable import MartletReachability

private let own = multiaddr("/ip4/11.7.0.9/tcp/50000")

private func second(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

private func peer(_ number: UInt64) -> PeerID {
    var random = RandomSource(seed: number)
    return KeyPair(random: &random).peerID
}

private func makeServer(_ change: (inout AutoNATServerConfiguration) -> Void = { _ in }) -> AutoNATServer {
    var configuration = AutoNATServerConfiguration()
    change(&configuration)
    return AutoNATServer(configuration: configuration, random: RandomSource(seed: 1)) { address in
        address.transportKind == .tcp || address.transportKind == .quicV1
    }
}

@Test func theFirstAddressThatCanBeDialedIsAndOnlyThat() {
    let decision = makeServer().decide(
        [
            nil, multiaddr("/ip4/11.7.0.9/udp/1/webrtc-direct"), multiaddr("/ip4/11.7.0.9/tcp/4001"),
            multiaddr("/ip4/11.7.0.9/udp/4001/quic-v1"),
        ], of: peer(1), at: own, now: second(0))
    #expect(decision == .dial(index: 2, multiaddr("/ip4/11.7.0.9/tcp/4001")))
}

@Test func anAddressThatIsNotThePeersOwnCostsItData() {
    let victim = multiaddr("/ip4/11.9.9.9/tcp/80")
    guard
        case .dialAfterData(0, victim, let byteCount) = makeServer().decide(
            [victim], of: peer(1), at: own, now: second(0))
    else {
        Issue.record("not asked for data")
        return
    }
    #expect(AutoNAT.dialDataByteCounts.contains(byteCount))
}

@Test(arguments: [
    "/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "/ip4/100.64.0.1/tcp/80", "/ip4/169.254.1.1/tcp/80",
    "/ip4/0.0.0.0/tcp/80", "/ip4/224.0.0.1/tcp/80", "/ip4/203.0.113.4/tcp/80", "/ip6/::1/tcp/80", "/ip6/fe80::1/tcp/80",
    "/ip6/::ffff:10.0.0.1/tcp/80", "/ip4/11.7.0.9/tcp/0", "/dns4/example.org/tcp/80",
    "/ip4/11.7.0.9/tcp/80/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
])
func whatIsNotOfTheInternetIsNeverDialed(_ text: String) {
    #expect(makeServer().decide([multiaddr(text)], of: peer(1), at: own, now: second(0)) == .refuse)
}

@Test func inAPrivateNetworkPrivateAddressesAreDialed() {
    let server = makeServer { $0.allowsPrivateAddresses = true }
    let address = multiaddr("/ip4/192.168.1.4/tcp/4001")
    #expect(
        server.decide([address], of: peer(1), at: multiaddr("/ip4/192.168.1.4/tcp/5"), now: second(0))
            == .dial(index: 0, address))
    #expect(server.decide([multiaddr("/ip4/224.0.0.1/tcp/4001")], of: peer(1), at: own, now: second(0)) == .refuse)
}

@Test func throughARelayNobodyIsServed() {
    let relayed = multiaddr(
        "/ip4/11.7.0.9/tcp/80/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit")
    #expect(
        makeServer().decide([multiaddr("/ip4/11.7.0.9/tcp/4001")], of: peer(1), at: relayed, now: second(0)) == .reject)
}

@Test func requestsOfOnePeerAndOfAllAreLimitedToSoManyAMinute() {
    let server = makeServer()
    let address = multiaddr("/ip4/11.7.0.9/tcp/4001")
    func isServed(_ number: UInt64, at seconds: Int64) -> Bool {
        server.decide([address], of: peer(number), at: own, now: second(seconds)) == .dial(index: 0, address)
    }
    for _ in 0..<12 { #expect(isServed(1, at: 0)) }
    #expect(!isServed(1, at: 59))
    for number in 2...5 { for _ in 0..<12 { #expect(isServed(UInt64(number), at: 30)) } }
    // 60 of all peers: a fresh one is not served either.
    #expect(!isServed(6, at: 31))
    #expect(isServed(1, at: 60))
}

@Test func requestsForAddressesOfOthersAreLimitedOnTheirOwn() {
    let server = makeServer()
    let victim = multiaddr("/ip4/11.9.9.9/tcp/80")
    for number in 1...12 {
        let decision = server.decide([victim], of: peer(UInt64(number)), at: own, now: second(0))
        #expect(decision != .reject)
    }
    #expect(server.decide([victim], of: peer(20), at: own, now: second(1)) == .reject)
    let address = multiaddr("/ip4/11.7.0.9/tcp/4001")
    #expect(server.decide([address], of: peer(21), at: own, now: second(1)) == .dial(index: 0, address))
}

@Test func requestsForNothingCountToo() {
    let server = makeServer()
    for _ in 0..<12 { #expect(server.decide([nil], of: peer(1), at: own, now: second(0)) == .refuse) }
    #expect(server.decide([nil], of: peer(1), at: own, now: second(0)) == .reject)
}
