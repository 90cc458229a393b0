import MartletCore
import MartletRuntime
import Testing

@Suite struct DNSAddressTests {
    private let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    private let other = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"

    @Test func recordsThatAreNoAddressesAreLeftOut() {
        let found = DNSAddress.addresses(in: [
            "dnsaddr=/ip4/1.2.3.4/tcp/1", "dnsaddr=/ip4/1.2.3.4/tcp/1", "dnsaddr=", "dnsaddr=nonsense", "v=spf1",
            "/ip4/1.2.3.4/tcp/1", "DNSADDR=/ip4/1.2.3.4/tcp/1", "dnsaddr=/ip6/::1/udp/2/quic-v1",
        ])
        #expect(found.map(\.description) == ["/ip4/1.2.3.4/tcp/1", "/ip6/::1/udp/2/quic-v1"])
    }

    private func expand(
        _ text: String, _ zone: [String: [String]], limits: DNSAddress.Limits = .init(),
        asked: Shared<[String]> = .init([])
    ) async throws -> [String] {
        try await DNSAddress.expand(try Multiaddr(text), limits: limits) { name throws(ResolverError) in
            asked.change { $0.append(name) }
            guard let records = zone[name] else { throw .notFound(name: name) }
            return records
        }.map(\.description)
    }

    @Test func namesLeadToNames() async throws {
        let zone = [
            "_dnsaddr.boot.example": ["dnsaddr=/dnsaddr/a.boot.example/p2p/\(peer)", "dnsaddr=/dnsaddr/gone.example"],
            "_dnsaddr.a.boot.example": [
                "dnsaddr=/ip4/1.2.3.4/tcp/4001/p2p/\(peer)", "dnsaddr=/ip4/5.6.7.8/tcp/4001/p2p/\(other)",
            ],
        ]
        // The second is of another peer than the name promised.
        #expect(try await expand("/dnsaddr/boot.example", zone) == ["/ip4/1.2.3.4/tcp/4001/p2p/\(peer)"])
        #expect(try await expand("/dnsaddr/boot.example/p2p/\(other)", zone) == [])
    }

    @Test func anAddressWithoutANameStaysAsItIs() async throws {
        #expect(try await expand("/ip4/1.2.3.4/tcp/1", [:]) == ["/ip4/1.2.3.4/tcp/1"])
    }

    @Test func theFirstFailureIsThrown() async throws {
        await #expect(throws: ResolverError.notFound(name: "_dnsaddr.nowhere.example")) {
            try await expand("/dnsaddr/nowhere.example", [:])
        }
    }

    @Test func namesThatLeadInACircleEnd() async throws {
        let zone = ["_dnsaddr.x.example": ["dnsaddr=/dnsaddr/x.example", "dnsaddr=/ip4/1.2.3.4/tcp/1"]]
        let asked = Shared<[String]>([])
        #expect(try await expand("/dnsaddr/x.example", zone, asked: asked) == ["/ip4/1.2.3.4/tcp/1"])
        #expect(asked.value.count == DNSAddress.Limits().depth)
    }

    @Test func lookUpsAndResultsAreBounded() async throws {
        var zone = ["_dnsaddr.x.example": (0..<40).map { "dnsaddr=/dnsaddr/\($0).example" }]
        for index in 0..<40 {
            zone["_dnsaddr.\(index).example"] = (0..<100).map { "dnsaddr=/ip4/10.0.\(index).\($0)/tcp/1" }
        }
        let asked = Shared<[String]>([])
        let found = try await expand("/dnsaddr/x.example", zone, asked: asked)
        #expect(found.count == DNSAddress.Limits().results)
        #expect(asked.value.count == DNSAddress.Limits().lookups)
    }
}
