import MartletCore
import Testing

@testable import MartletReachability

private let lan = multiaddr("/ip4/192.168.1.2/udp/4001/quic-v1")
private let ip6 = multiaddr("/ip6/2600:7::2/udp/4001/quic-v1")
private let mapped = multiaddr("/ip4/11.7.0.9/udp/4001/quic-v1")
private let circuit = multiaddr(
    "/ip4/11.1.1.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit")

@Test func waysInFromOutsideAreAnnouncedFirst() {
    var announced = AnnouncedAddresses()
    announced.listening = [lan, ip6]
    announced.circuit = [circuit]
    announced.confirmed = [mapped]
    #expect(announced.addresses == [mapped, ip6, circuit, lan])
}

@Test func whatWasGivenComesBeforeWhatWasFoundOut() {
    var announced = AnnouncedAddresses()
    let balancer = multiaddr("/ip4/11.9.9.9/tcp/443")
    announced.listening = [lan, ip6]
    announced.unreachable = [ip6]
    announced.confirmed = [mapped]
    announced.given = [balancer, mapped]
    #expect(announced.addresses == [balancer, mapped, lan])
}

@Test func whatStrangersCannotReachIsLeftOutWhenThereIsAnotherWayIn() {
    var announced = AnnouncedAddresses()
    announced.listening = [lan, ip6]
    announced.unreachable = [ip6]
    #expect(announced.addresses == [ip6, lan])
    announced.circuit = [circuit]
    #expect(announced.addresses == [circuit, lan])
}

@Test func noAddressIsAnnouncedTwiceAndTheirNumberIsLimited() {
    var announced = AnnouncedAddresses()
    announced.listening = [ip6, lan]
    announced.confirmed = [ip6]
    #expect(announced.addresses == [ip6, lan])
    announced.listening += (1...100).map { multiaddr("/ip4/192.168.1.2/udp/\($0)/quic-v1") }
    #expect(announced.addresses.count == AnnouncedAddresses.limit)
}
