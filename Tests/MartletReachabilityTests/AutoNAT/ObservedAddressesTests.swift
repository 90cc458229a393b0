import MartletCore
import MartletSwarm
import Testing

@testable import MartletReachability

private let listener = multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")

/// Observations over one socket, in seconds from the start.
private struct Scene {
    var addresses = ObservedAddresses()
    private var last: UInt64 = 0

    init(configuration: ObservedAddresses.Configuration = .init()) {
        addresses = ObservedAddresses(configuration: configuration)
        addresses.localAddresses = [.v4(IPv4Address(192, 168, 1, 2))]
    }

    /// The peer at `observer` (host and port) sees `observed`.
    @discardableResult
    mutating func see(
        _ observed: String, by observer: String, isOutbound: Bool = true, at seconds: Int64 = 0,
        listener: Multiaddr = listener
    ) -> ConnectionID {
        last += 1
        let id = ConnectionID(rawValue: last)
        addresses.observed(
            quic(observed), at: listener, by: quic(observer), over: id, isOutbound: isOutbound, now: second(seconds))
        return id
    }

    var nat: NATKind { addresses.natKind(of: listener) }
}

private func quic(_ text: String) -> Multiaddr {
    let parts = text.split(separator: ":")
    return multiaddr("/ip4/\(parts[0])/udp/\(parts[1])/quic-v1")
}

private func second(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

@Test func anAddressIsConfirmedByPeersOfSeveralNetworksNotByManyOfOne() {
    var scene = Scene()
    scene.see("11.7.0.9:4001", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:4001", by: "11.1.1.2:4001")
    #expect(scene.addresses.candidates().map(\.isConfirmed) == [false])
    scene.see("11.7.0.9:4001", by: "11.2.1.1:4001")
    #expect(scene.addresses.candidates().map(\.isConfirmed) == [true])
    #expect(scene.addresses.candidates().map(\.address) == [quic("11.7.0.9:4001")])
    #expect(scene.addresses.candidates().map(\.observerCount) == [2])
    #expect(scene.addresses.candidates(of: multiaddr("/ip4/0.0.0.0/tcp/4001")).isEmpty)
}

@Test func oneExternalPortForAllIsEndpointIndependentMapping() {
    var scene = Scene()
    scene.see("11.7.0.9:4001", by: "11.1.1.1:4001")
    #expect(scene.nat == NATKind(allocation: .preserving))
    scene.see("11.7.0.9:4001", by: "11.2.1.1:4001")
    #expect(scene.nat == NATKind(mapping: .endpointIndependent, allocation: .preserving))

    var other = Scene()
    other.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    other.see("11.7.0.9:50123", by: "11.2.1.1:4001")
    #expect(other.nat == NATKind(mapping: .endpointIndependent, allocation: .random))
}

@Test func portsThatDifferBetweenDestinationsAreDependentMapping() {
    var scene = Scene()
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:41000", by: "11.2.1.1:4001")
    #expect(scene.nat == NATKind(mapping: .addressAndPortDependent, allocation: .random))
}

@Test func twoPortsOfOnePeerTellDependenceOnAddressesFromThatOnPorts() {
    var scene = Scene()
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4002")
    scene.see("11.7.0.9:41000", by: "11.2.1.1:4001")
    #expect(scene.nat.mapping == .addressDependent)
    scene.see("11.7.0.9:42000", by: "11.2.1.1:4002")
    #expect(scene.nat.mapping == .addressAndPortDependent)
}

@Test func portsThatCountUpAreSequential() {
    var scene = Scene()
    scene.see("11.7.0.9:20001", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:20003", by: "11.2.1.1:4001")
    scene.see("11.7.0.9:20007", by: "11.3.1.1:4001")
    #expect(scene.nat.allocation == .sequential(step: 2))
    scene.see("11.7.0.9:31007", by: "11.4.1.1:4001")
    #expect(scene.nat.allocation == .random)
}

@Test func whoIsSeenAtItsOwnAddressHasNoNAT() {
    var scene = Scene()
    scene.addresses.localAddresses = [.v4(IPv4Address(11, 7, 0, 9))]
    scene.see("11.7.0.9:4001", by: "11.1.1.1:4001")
    #expect(scene.nat.mapping == .none)
    #expect(scene.addresses.candidates().isEmpty)
}

@Test func mappingsThatWereNotThereTogetherAreNotCompared() {
    var scene = Scene()
    let first = scene.see("11.7.0.9:50123", by: "11.1.1.1:4001", at: 0)
    scene.addresses.connectionClosed(first, now: second(10))
    scene.see("11.7.0.9:41000", by: "11.2.1.1:4001", at: 100)
    #expect(scene.nat.mapping == .unknown)
}

@Test func aConnectionThatCameInSaysNothingOfTheMapping() {
    var scene = Scene()
    scene.see("11.7.0.9:4001", by: "11.1.1.1:4001", isOutbound: false)
    scene.see("11.7.0.9:50001", by: "11.2.1.1:4001")
    #expect(scene.nat.mapping == .unknown)
    #expect(scene.addresses.candidates().count == 2)
}

@Test func neighboursDoNotSpeakForTheInternet() {
    var scene = Scene()
    scene.see("10.0.0.7:4001", by: "10.0.0.1:4001")
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:50123", by: "11.2.1.1:4001")
    #expect(scene.nat.mapping == .endpointIndependent)
}

@Test func lengthOfRetentionAndNumberAreBounded() {
    var configuration = ObservedAddresses.Configuration()
    configuration.maximumObservations = 4
    var scene = Scene(configuration: configuration)
    let first = scene.see("11.7.0.9:4001", by: "11.1.1.1:4001")
    for index in 2...4 { scene.see("11.7.0.9:400\(index)", by: "11.\(index).1.1:4001") }
    scene.see("11.7.0.9:4009", by: "11.9.1.1:4001")
    #expect(scene.addresses.observations.count == 4)
    #expect(!scene.addresses.candidates().contains { $0.address.port == 4009 })
    // A closed one makes room.
    scene.addresses.connectionClosed(first, now: second(1))
    scene.see("11.7.0.9:4009", by: "11.9.1.1:4001", at: 2)
    #expect(scene.addresses.observations.count == 4)
    #expect(scene.addresses.candidates().contains { $0.address.port == 4009 })
    scene.addresses.connectionClosed(ConnectionID(rawValue: 2), now: second(3))
    scene.addresses.forget(now: second(602))
    #expect(scene.addresses.observations.count == 4)
    scene.addresses.forget(now: second(603))
    #expect(scene.addresses.observations.count == 3)
}

@Test(arguments: ["192.168.1.7:4001", "127.0.0.1:4001", "0.0.0.0:4001", "224.0.0.1:4001", "11.7.0.9:0"])
func anAddressThatNobodyOnTheInternetCanSeeIsNotBelieved(_ address: String) {
    var scene = Scene()
    scene.see(address, by: "11.1.1.1:4001")
    #expect(scene.addresses.observations.isEmpty)
}

@Test func relayedConnectionsAndOtherTransportsAreNotCounted() {
    var addresses = ObservedAddresses()
    let relay = "/ip4/11.1.1.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
    addresses.observed(
        multiaddr("/ip4/11.7.0.9/udp/4001/quic-v1"), at: listener, by: multiaddr(relay),
        over: ConnectionID(rawValue: 1), isOutbound: true, now: second(0))
    addresses.observed(
        multiaddr("/ip4/11.7.0.9/tcp/4001"), at: listener, by: quic("11.1.1.1:4001"),
        over: ConnectionID(rawValue: 2), isOutbound: true, now: second(0))
    #expect(addresses.observations.isEmpty)
}

@Test func thePeerSeesItsOwnPortOfASymmetricNAT() {
    var scene = Scene()
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    scene.see("11.7.0.9:41000", by: "11.2.1.1:4001")
    #expect(scene.addresses.address(of: listener, seenBy: quic("11.1.1.1:4001")) == quic("11.7.0.9:50123"))
    #expect(scene.addresses.address(of: listener, seenBy: quic("11.1.1.1:4009")) == nil)
}

@Test func aChangeOfNetworkForgetsWhatWasSeen() {
    var scene = Scene()
    scene.see("11.7.0.9:50123", by: "11.1.1.1:4001")
    scene.addresses.networkChanged()
    #expect(scene.addresses.candidates().isEmpty)
    #expect(scene.nat == NATKind())
}
