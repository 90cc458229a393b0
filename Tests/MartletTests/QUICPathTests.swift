import MartletCore
import MartletIdentity
import MartletQUIC
import MartletRuntime
import Testing

@testable import Martlet

/// Over real sockets: clients whose address changes, servers that forget, and clients that must show their address.
@Suite struct QUICPathTests {
    private static let place = "/ip4/127.0.0.1/udp/0/quic-v1"

    private func server(
        _ key: KeyPair? = nil, at place: String = QUICPathTests.place,
        _ configure: (inout NodeConfiguration) -> Void = { _ in }
    ) async throws -> Node {
        let address = try Multiaddr(place)
        let node = try await NodePair.node { configuration in
            configuration.listenAddresses = [address]
            // Its connections live on any of them, wherever their clients send from.
            configuration.loopCount = 3
            // However slow the machine is, silence alone ends nothing.
            configuration.connection.deadAfter = nil
            if let key { configuration.identity = key }
            configure(&configuration)
        }
        serveEcho(node)
        return node
    }

    /// A client connected to the server through the forwarder.
    private func client(
        of server: Node, through forwarder: UDPForwarder, listening: [Multiaddr] = []
    ) async throws -> Node {
        let node = try await NodePair.node { configuration in
            configuration.listenAddresses = listening
            configuration.loopCount = 3
            configuration.connection.deadAfter = nil
        }
        let way = try #require(forwarder.address.quicMultiaddr)
        try await node.connect(to: way.encapsulating(peer: server.peerID))
        return node
    }

    private func forwarder(to server: Node) async throws -> UDPForwarder {
        try await UDPForwarder(to: try #require(SocketAddress(server.listenAddresses[0].withoutPeerID)))
    }

    @Test(arguments: ["127.0.0.1:0", "127.0.0.2:0"])
    func aStreamGoesOnWhenItsClientsAddressChanges(_ place: String) async throws {
        let server = try await server()
        let forwarder = try await forwarder(to: server)
        let client = try await client(of: server, through: forwarder)
        let stream = try await client.openStream(to: server.peerID, protocol: "/echo/1")
        for round in 0..<3 {
            let sent = [UInt8](repeating: UInt8(round), count: 200_000)
            async let writing: Void = stream.write(Bytes(sent))
            #expect(try await stream.read(exactly: sent.count) == sent)
            try await writing
            try await forwarder.rebind(to: try #require(SocketAddress(place)))
        }
        #expect(try await client.ping(server.peerID, count: 3).count == 3)
        await client.stop()
        await forwarder.stop()
        await server.stop()
    }

    /// A client that listens dials from that port, at which what the server says may come to any of its loops.
    @Test(arguments: [[], [QUICPathTests.place]])
    func aServerThatForgotItsClientsSaysSo(_ listening: [String]) async throws {
        let key = KeyPair.generate()
        let first = try await server(key)
        let forwarder = try await forwarder(to: first)
        let client = try await client(of: first, through: forwarder, listening: try listening.map { try Multiaddr($0) })
        let events = client.subscribeToEvents()
        // From now on the client knows that its handshake has arrived; until then it may say nothing that is answered by a reset.
        #expect(try await client.ping(key.peerID).count == 1)
        // Its farewell is lost, as when it crashes.
        try await forwarder.letPass(false)
        let address = first.listenAddresses[0].withoutPeerID
        await first.stop()
        let second = try await server(key, at: "\(address)")
        try await forwarder.letPass(true)
        // Who asks nothing is told nothing.
        let asking = Task { try? await client.ping(key.peerID) }
        defer { asking.cancel() }
        for await event in events {
            guard case .disconnected(key.peerID, let reason) = event else { continue }
            #expect("\(reason)".contains("does not know the connection any more"))
            break
        }
        await client.stop()
        await forwarder.stop()
        await second.stop()
    }

    @Test func underLoadClientsShowTheirAddressFirst() async throws {
        let server = try await server { $0.quic.retryThreshold = 0 }
        let client = try await NodePair.node { $0.listenAddresses = [] }
        try await client.connect(to: server.listenAddresses[0])
        #expect(try await client.ping(server.peerID).count == 1)
        await client.stop()
        await server.stop()
    }
}
