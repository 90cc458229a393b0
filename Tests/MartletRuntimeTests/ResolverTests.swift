import MartletCore
import Synchronization
import Testing

@testable import MartletRuntime

@Suite struct ResolverTests {
    private func withResolver(
        _ zone: [String: [FakeNameServer.Record]], isSilent: Bool = false,
        change: (inout Resolver.Configuration) -> Void = { _ in },
        _ body: (Resolver, FakeNameServer, EventLoop) async throws -> Void
    ) async throws {
        try await withGroup { group in
            let loop = group.next()
            let (server, address) = try await FakeNameServer.start(on: loop, zone, isSilent: isSilent)
            var configuration = Resolver.Configuration()
            configuration.servers = [address]
            change(&configuration)
            try await body(Resolver(loop: loop, configuration: configuration), server, loop)
        }
    }

    @Test func numericHostsAreAnsweredAtOnce() async throws {
        try await withResolver([:]) { resolver, server, _ in
            let found1 = try await resolver.addresses("192.0.2.1", port: 5)
            #expect(found1 == [.ip4(192, 0, 2, 1, port: 5)])
            let found2 = try await resolver.addresses("2001:db8::1").map(\.description)
            #expect(found2 == ["[2001:db8::1]:0"])
            await #expect(throws: ResolverError.notFound(name: "::1")) {
                try await resolver.addresses("::1", family: .ip4)
            }
            #expect(server.questions.withLock { $0.isEmpty })
        }
    }

    @Test func theHostsFileComesFirst() async throws {
        try await withResolver([:]) { resolver, server, _ in
            let found = try await resolver.addresses("localhost", port: 80, family: .ip4)
            #expect(found == [.loopback(port: 80)])
            #expect(server.questions.withLock { $0.isEmpty })
        }
    }

    @Test func addressesOfBothVersions() async throws {
        let six: [UInt8] = [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        let zone: [String: [FakeNameServer.Record]] = [
            "node.example.org": [.ip4([192, 0, 2, 7]), .ip4([192, 0, 2, 8]), .ip4([192, 0, 2, 7]), .ip6(six)]
        ]
        try await withResolver(zone) { resolver, _, _ in
            let all = try await resolver.addresses("node.example.org", port: 1).map(\.description)
            #expect(Set(all) == ["192.0.2.7:1", "192.0.2.8:1", "[2001:db8::1]:1"])
            #expect(all.count == 3)
            let found3 = try await resolver.addresses("node.example.org", family: .ip6).map(\.description)
            #expect(found3 == ["[2001:db8::1]:0"])
        }
    }

    @Test func textRecordsAreJoinedFromTheirPieces() async throws {
        let zone: [String: [FakeNameServer.Record]] = [
            "_dnsaddr.example.org": [.text(["dnsaddr=/ip4/1.2.3.4", "/tcp/5"]), .text([""]), .text(["two"])]
        ]
        try await withResolver(zone) { resolver, _, _ in
            let found4 = try await resolver.textRecords("_dnsaddr.example.org")
            #expect(found4 == ["dnsaddr=/ip4/1.2.3.4/tcp/5", "", "two"])
        }
    }

    @Test func namesThatDoNotExist() async throws {
        try await withResolver(["empty.example.org": []]) { resolver, _, _ in
            await #expect(throws: ResolverError.notFound(name: "no.example.org")) {
                try await resolver.addresses("no.example.org")
            }
            await #expect(throws: ResolverError.notFound(name: "empty.example.org")) {
                try await resolver.textRecords("empty.example.org")
            }
        }
    }

    @Test(arguments: ["", " ", "a b", "a\0b", "ü.example", String(repeating: "x", count: 300)])
    func whatIsNoNameIsNotAsked(_ name: String) async throws {
        try await withResolver([:]) { resolver, server, _ in
            await #expect(throws: ResolverError.invalidName(name)) { try await resolver.addresses(name) }
            await #expect(throws: ResolverError.invalidName(name)) { try await resolver.textRecords(name) }
            #expect(server.questions.withLock { $0.isEmpty })
        }
    }

    @Test func resultsAreBounded() async throws {
        let many = (0..<60).map { FakeNameServer.Record.ip4([10, 0, 0, UInt8($0)]) }
        let texts = (0..<60).map { FakeNameServer.Record.text(["t\($0)"]) }
        try await withResolver(["many.example.org": many + texts], change: { $0.maximumResults = 7 }) {
            resolver, _, _ in
            let found5 = try await resolver.addresses("many.example.org", family: .ip4).count
            #expect(found5 == 7)
            let found6 = try await resolver.textRecords("many.example.org")
            #expect(found6 == (0..<7).map { "t\($0)" })
        }
    }

    @Test func aSilentServerIsATimeOut() async throws {
        try await withResolver([:], isSilent: true, change: { $0.timeout = .milliseconds(30) }) { resolver, _, _ in
            await #expect(throws: ResolverError.timedOut(name: "x.example.org")) {
                try await resolver.textRecords("x.example.org")
            }
        }
        let change: (inout Resolver.Configuration) -> Void = {
            $0.tryTimeout = .milliseconds(20)
            $0.tries = 2
        }
        try await withResolver([:], isSilent: true, change: change) { resolver, server, _ in
            await #expect(throws: ResolverError.timedOut(name: "x.example.org")) {
                try await resolver.textRecords("x.example.org")
            }
            #expect(server.questions.withLock { $0.count } == 2)
        }
    }

    @Test func cancellingTheTaskEndsTheWait() async throws {
        try await withResolver([:], isSilent: true) { resolver, server, _ in
            let task = Task { try await resolver.addresses("x.example.org") }
            await eventually { server.questions.withLock { !$0.isEmpty } }
            task.cancel()
            await #expect(throws: ResolverError.cancelled) { try await task.value }
            // Cancelled before it began.
            let early = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await resolver.addresses("x.example.org")
            }
            early.cancel()
            await #expect(throws: ResolverError.cancelled) { try await early.value }
        }
    }

    @Test func tooManyLookUpsAreRefused() async throws {
        try await withResolver([:], isSilent: true, change: { $0.maximumQueries = 3 }) { resolver, server, _ in
            let tasks = (0..<3).map { index in Task { try await resolver.textRecords("\(index).example.org") } }
            await eventually { server.questions.withLock { Set($0).count == 3 } }
            await #expect(throws: ResolverError.tooManyQueries(limit: 3)) {
                try await resolver.textRecords("x.example.org")
            }
            for task in tasks { task.cancel() }
        }
    }

    @Test func aMultiaddrIsResolvedThroughDNSAddrAndNames() async throws {
        let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
        let zone: [String: [FakeNameServer.Record]] = [
            "_dnsaddr.boot.example.org": [.text(["dnsaddr=/dns4/node.example.org/tcp/4001/p2p/\(peer)"])],
            "node.example.org": [.ip4([192, 0, 2, 7]), .ip4([192, 0, 2, 8])],
        ]
        try await withResolver(zone) { resolver, _, _ in
            let found = try await resolver.resolve(Multiaddr("/dnsaddr/boot.example.org"))
            #expect(
                Set(found.map(\.description)) == [
                    "/ip4/192.0.2.7/tcp/4001/p2p/\(peer)", "/ip4/192.0.2.8/tcp/4001/p2p/\(peer)",
                ])
            let found7 = try await resolver.resolve(Multiaddr("/ip4/1.2.3.4/tcp/1")).map(\.description)
            #expect(found7 == ["/ip4/1.2.3.4/tcp/1"])
            await #expect(throws: ResolverError.self) {
                try await resolver.resolve(Multiaddr("/dns/nowhere.example.org/tcp/1"))
            }
        }
    }

    @Test func theChannelGoesWhenNothingIsAsked() async throws {
        let zone: [String: [FakeNameServer.Record]] = ["a.example.org": [.text(["x"])]]
        try await withResolver(zone) { resolver, _, loop in
            let before = loop.inspectResources()
            for _ in 0..<3 {
                let found8 = try await resolver.textRecords("a.example.org")
                #expect(found8 == ["x"])
            }
            await eventually { loop.inspectResources() == before }
            let again = try await resolver.textRecords("a.example.org")
            #expect(again == ["x"])
        }
    }
}
