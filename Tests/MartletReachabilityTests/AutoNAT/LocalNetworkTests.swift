import MartletCore
import Testing

@testable import MartletReachability

@Suite struct LocalNetworkTests {
    private func network(_ addresses: [String], from source: String?) throws -> LocalNetwork {
        let parsed = try addresses.map { try #require(IPAddress($0)) }
        return LocalNetwork(addresses: Set(parsed), source: try source.map { try #require(IPAddress($0)) })
    }

    @Test func bridgesAndLinkAddressesOfContainersAreNoOtherNetwork() throws {
        let before = try network(["127.0.0.1", "192.168.1.10", "fe80::1"], from: "192.168.1.10")
        let after = try network(
            ["127.0.0.1", "192.168.1.10", "172.18.0.1", "fe80::1", "fe80::2"], from: "192.168.1.10")
        #expect(before != after)
        #expect(!after.isAnother(than: before))
        #expect(!before.isAnother(than: after))
    }

    @Test func anotherWayToTheInternetIs() throws {
        let both = ["192.168.1.10", "10.0.0.7"]
        #expect(try network(both, from: "10.0.0.7").isAnother(than: network(both, from: "192.168.1.10")))
        #expect(
            try network(["192.168.1.10"], from: nil).isAnother(than: network(["192.168.1.10"], from: "192.168.1.10")))
    }

    @Test func aPublicAddressThatComesOrGoesIs() throws {
        let before = try network(["192.168.1.10", "fe80::1"], from: "192.168.1.10")
        let after = try network(["192.168.1.10", "fe80::1", "2a00:1450:4001:81b::200e"], from: "192.168.1.10")
        #expect(after.isAnother(than: before))
        #expect(before.isAnother(than: after))
    }

    @Test func withoutAWayToTheInternetPrivateAddressesCount() throws {
        #expect(try network(["10.0.0.7"], from: nil).isAnother(than: network(["192.168.1.10"], from: nil)))
        #expect(try !network(["10.0.0.7", "fe80::2"], from: nil).isAnother(than: network(["10.0.0.7"], from: nil)))
    }
}
