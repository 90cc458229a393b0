import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC
import MartletSwarm
import Testing

@testable import Martlet

/// Nodes that speak QUIC on the loopback interface.
@Suite struct QUICNodeTests {
    private func makePair(
        _ place: String = "/ip4/127.0.0.1/udp/0/quic-v1",
        _ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }
    ) async throws -> NodePair {
        let address = try Multiaddr(place)
        return try await NodePair { configuration in
            configuration.listenAddresses = [address]
            configure(&configuration)
        }
    }

    @Test(arguments: ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1", "/ip4/0.0.0.0/udp/0/quic-v1"])
    func nodesConnectAndPing(_ place: String) async throws {
        let pair = try await makePair(place)
        try await pair.connect()
        #expect(try await pair.a.ping(pair.b.peerID, count: 3).count == 3)
        #expect(try await pair.a.peers().map(\.peer) == [pair.b.peerID])
        #expect(try await pair.b.peers().map(\.peer) == [pair.a.peerID])
        #expect(try await pair.a.peers().allSatisfy { $0.address.contains(.quicV1) })
        await pair.stop()
    }

    @Test func anEchoOfManyMegabytesIsExact() async throws {
        let pair = try await makePair()
        try await pair.connect()
        try await pair.checkEcho(byteCount: 16 << 20)
        await pair.stop()
    }

    @Test func manyStreamsAtOnceKeepTheirBytesApart() async throws {
        let pair = try await makePair()
        try await pair.connect()
        try await pair.checkManyStreams()
        await pair.stop()
    }

    @Test func anotherPeerThanTheDialedIsRefused() async throws {
        let pair = try await makePair()
        let other = KeyPair.generate().peerID
        let address = try pair.b.listenAddresses[0].withoutPeerID.encapsulating(peer: other)
        let error = await #expect(throws: MartletError.self) { try await pair.a.connect(to: address) }
        #expect(error?.message.contains("\(pair.b.peerID)") == true)
        await pair.stop()
    }

    @Test func nobodyThereIsATypedError() async throws {
        let pair = try await makePair { $0.connection.handshakeTimeout = .milliseconds(300) }
        let address = try Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1")
        let error = await #expect(throws: MartletError.self) { try await pair.a.connect(to: address) }
        #expect(error?.code == .dialFailed)
        await pair.stop()
    }

    @Test func turnedOffItNeitherListensNorDials() async throws {
        let address = try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
        await #expect(throws: MartletError.self) {
            try await Node.start { configuration in
                configuration.listenAddresses = [address]
                configuration.usesQUIC = false
            }
        }
        let node = try await NodePair.node { $0.usesQUIC = false }
        let error = await #expect(throws: MartletError.self) {
            try await node.connect(to: try Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1"))
        }
        #expect(error?.message.contains("turned off") == true)
        await node.stop()
    }

    @Test func bothTransportsOfANodeAreRaced() async throws {
        let both = [try Multiaddr("/ip4/127.0.0.1/tcp/0"), try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]
        let pair = try await NodePair { $0.listenAddresses = both }
        #expect(pair.b.listenAddresses.count == 2)
        let peer = try await pair.a.connect(to: pair.b.peerID, at: pair.b.listenAddresses)
        #expect(peer == pair.b.peerID)
        #expect(try await pair.a.ping(pair.b.peerID).count == 1)
        await pair.stop()
    }

    @Test func aNodeThatStopsIsMissedAtOnce() async throws {
        let pair = try await makePair()
        try await pair.connect()
        let events = pair.a.subscribeToEvents()
        await pair.b.stop()
        for await event in events {
            if case .disconnected(let peer, _) = event, peer == pair.b.peerID { break }
        }
        await pair.a.stop()
    }

    @Test func dialsOfANodeThatListensNowhereAreSpreadOverItsLoops() async throws {
        let pair = try await makePair()
        let dialer = try await NodePair.node { $0.listenAddresses = [] }
        for node in [pair.a, pair.b] {
            try await dialer.connect(to: node.listenAddresses[0])
            #expect(try await dialer.ping(node.peerID).count == 1)
        }
        // Each loop has a socket, so the two see it at different ports.
        let seen = try await [pair.a.peers(), pair.b.peers()].map { try #require($0.first).address }
        #expect(Set(seen).count == 2)
        await dialer.stop()
        await pair.stop()
    }

    @Test func theCertificateIsMadeWhenItIsFirstNeeded() {
        let settings = QUICSettings(.generate(), .init(), .init(), WindowBudget(limit: 0))
        #expect(!settings.hasIdentity)
        let identity = settings.identity
        #expect(settings.identity === identity)
        #expect(settings.hasIdentity)
    }
}
