import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import Testing

/// AutoNAT v2 between nodes on the loopback interface, which counts as the internet here.
@Suite struct AutoNATTests {
    private static func node(
        _ places: [String], _ change: (inout AutoNATSettings) -> Void = { _ in }
    ) async throws -> Node {
        try await Node.start { configuration in
            configuration.listenAddresses = try places.map { try Multiaddr($0) }
            configuration.loopCount = 2
            configuration.autoNAT.allowsPrivateAddresses = true
            configuration.autoNAT.server.longestDelay = .zero
            configuration.autoNAT.client.serverInterval = .milliseconds(10)
            change(&configuration.autoNAT)
        }
    }

    private static let anywhere = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]

    /// Sends `request` as it is and returns the answer.
    private func ask(_ server: Node, from client: Node, _ request: [UInt8]) async throws -> AutoNATMessage {
        let stream = try await client.openStream(to: server.peerID, protocol: AutoNAT.dialRequestProtocolID)
        try await stream.write(Bytes(request))
        var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit)
        while var bytes = try await stream.read() {
            guard let message = try reader.next(from: &bytes) else { continue }
            try await stream.finish()
            return try AutoNATMessage(message)
        }
        throw MartletError(.streamEnded, "no answer")
    }

    @Test func addressesThatPeersReachBecomePublicAndAreAnnounced() async throws {
        let servers = [try await Self.node(Self.anywhere), try await Self.node(Self.anywhere)]
        let node = try await Self.node(Self.anywhere)
        let events = node.subscribeToEvents()
        for server in servers { try await node.connect(to: server.listenAddresses[0]) }
        var known: [AddressReachability] = []
        for await event in events {
            guard case .reachabilityChanged(let addresses) = event else { continue }
            known = addresses
            if !known.isEmpty, known.allSatisfy({ $0.reachability == .public }) { break }
        }
        #expect(Set(known.map(\.address)) == Set(node.listenAddresses.map(\.withoutPeerID)))
        #expect(try await node.reachability().allSatisfy { $0.successCount > 0 && $0.failureCount == 0 })
        // The connections that the answers came over are as they were.
        let peers = try await node.peers().map(\.peer)
        for server in servers { #expect(peers.contains(server.peerID)) }
        for node in servers + [node] { await node.stop() }
    }

    @Test func aPortWhereNobodyAnswersIsNotReached() async throws {
        let server = try await Self.node(Self.anywhere)
        // It is not to ask for itself meanwhile: a server takes two requests at a time.
        let client = try await Self.node(Self.anywhere) { $0.asksPeers = false }
        // A port that was free a moment ago.
        let gone = try await Self.node(["/ip4/127.0.0.1/tcp/0"])
        let address = gone.listenAddresses[0].withoutPeerID
        await gone.stop()
        try await client.connect(to: server.listenAddresses[0])
        let answer = try await ask(
            server, from: client, AutoNATMessage.dialRequest(addresses: [address], nonce: 7).encoded)
        #expect(answer == .dialResponse(.dialed(index: 0, .notReached)))
        await client.stop()
        await server.stop()
    }

    @Test func somebodyElseAtTheAddressIsNotThePeer() async throws {
        let server = try await Self.node(Self.anywhere)
        // It is not to ask for itself meanwhile: a server takes two requests at a time.
        let client = try await Self.node(Self.anywhere) { $0.asksPeers = false }
        let other = try await Self.node(Self.anywhere)
        try await client.connect(to: server.listenAddresses[0])
        for address in other.listenAddresses {
            let request = AutoNATMessage.dialRequest(addresses: [address.withoutPeerID], nonce: 7)
            #expect(
                try await ask(server, from: client, request.encoded) == .dialResponse(.dialed(index: 0, .notReached)))
        }
        for node in [client, server, other] { await node.stop() }
    }

    @Test(arguments: ["/ip4/127.0.0.2/tcp/0", "/ip4/127.0.0.2/udp/0/quic-v1"])
    func anotherHostIsDialedAfterDataThatTheClientSends(_ place: String) async throws {
        let server = try await Self.node(["/ip4/127.0.0.1/tcp/0"])
        let node = try await Self.node([place])
        let events = node.subscribeToEvents()
        // Dialed from 127.0.0.1, so that the listening address is a stranger's in the server's eyes.
        try await node.connect(to: server.listenAddresses[0])
        for await event in events {
            guard case .reachabilityChanged(let known) = event else { continue }
            if known.contains(where: { $0.reachability == .public }) { break }
        }
        #expect(try await node.reachability().first?.address == node.listenAddresses[0].withoutPeerID)
        await node.stop()
        await server.stop()
    }

    @Test func aNonceThatNobodyWasGivenIsNotTaken() async throws {
        let pair = try await NodePair()
        try await pair.connect()
        let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: AutoNAT.dialBackProtocolID)
        try await stream.write(Bytes([9, 9, 1, 2, 3, 4, 5, 6, 7, 8]))
        await #expect(throws: MartletError.self) { _ = try await stream.read() }
        await pair.stop()
    }

    @Test func privateAddressesAreNotDialedUnlessAllowed() async throws {
        let server = try await Self.node(Self.anywhere) { $0.allowsPrivateAddresses = false }
        let client = try await Self.node(Self.anywhere) { $0.asksPeers = false }
        try await client.connect(to: server.listenAddresses[0])
        let request = AutoNATMessage.dialRequest(addresses: [client.listenAddresses[0].withoutPeerID], nonce: 7)
        #expect(try await ask(server, from: client, request.encoded) == .dialResponse(.refused))
        await client.stop()
        await server.stop()
    }

    @Test func thirteenRequestsAMinuteAreOneTooMany() async throws {
        let server = try await Self.node(Self.anywhere)
        let client = try await Self.node(Self.anywhere) { $0.asksPeers = false }
        try await client.connect(to: server.listenAddresses[0])
        let request = AutoNATMessage.dialRequest(addresses: [], nonce: 7).encoded
        for _ in 0..<12 { #expect(try await ask(server, from: client, request) == .dialResponse(.refused)) }
        #expect(try await ask(server, from: client, request) == .dialResponse(.rejected))
        await client.stop()
        await server.stop()
    }

    /// What follows a request for a foreign address, which asks for 30,000 bytes and more.
    @Test(arguments: [
        [AutoNATMessage.dialData(byteCount: 0).encoded], [AutoNATMessage.dialData(byteCount: 99).encoded],
        [AutoNATMessage.dialData(byteCount: 4097).encoded], [AutoNATMessage.dialResponse(.rejected).encoded],
        [AutoNATMessage.dialRequest(addresses: [], nonce: 1).encoded], [[0xFF, 0xFF, 0x7F]], [[1, 0xFF]],
    ])
    func dataThatIsNoneEndsTheRequest(_ answers: [[UInt8]]) async throws {
        let server = try await Self.node(Self.anywhere)
        let client = try await Self.node(Self.anywhere) { $0.asksPeers = false }
        try await client.connect(to: server.listenAddresses[0])
        let stream = try await client.openStream(to: server.peerID, protocol: AutoNAT.dialRequestProtocolID)
        let foreign = try Multiaddr("/ip4/127.0.0.9/tcp/9")
        try await stream.write(Bytes(AutoNATMessage.dialRequest(addresses: [foreign], nonce: 7).encoded))
        let request = try await stream.read()
        #expect(request != nil)
        for answer in answers { try await stream.write(Bytes(answer)) }
        await #expect(throws: MartletError.self) { _ = try await stream.read() }
        // The connection goes on.
        #expect(try await client.ping(server.peerID).count == 1)
        await client.stop()
        await server.stop()
    }
}
