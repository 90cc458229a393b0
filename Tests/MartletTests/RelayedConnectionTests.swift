import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm
import Testing

/// Two nodes that reach each other through a relay only: `b` listens nowhere.
private struct RelayedPair {
    let relay: ScriptedRelay
    let pair: NodePair
    var a: Node { pair.a }
    var b: Node { pair.b }

    init(
        _ relayPlace: String = "/ip4/127.0.0.1/tcp/0",
        _ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }
    ) async throws {
        let place = try Multiaddr(relayPlace)
        relay = try await ScriptedRelay { $0.listenAddresses = [place] }
        let address = relay.address
        let b = try await NodePair.node {
            configure(&$0)
            $0.listenAddresses = []
            $0.relays = [address]
        }
        pair = NodePair(a: try await NodePair.node(configure), b: b)
        try await Self.waitForReservation(b)
    }

    static func waitForReservation(_ node: Node) async throws {
        while try await !node.announcedAddresses().contains(where: \.isCircuit) {
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    func connect() async throws { try await a.connect(to: relay.circuit(to: b.peerID)) }

    func stop() async {
        await pair.stop()
        await relay.node.stop()
    }

    /// The failure of a dial through the relay.
    func failure() async throws -> String {
        let error = await #expect(throws: MartletError.self) { try await connect() }
        return error?.message ?? ""
    }
}

@Suite struct RelayedConnectionTests {
    @Test(arguments: ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"])
    func aNodeBehindARelayIsReached(_ place: String) async throws {
        let scene = try await RelayedPair(place)
        try await scene.connect()
        #expect(try await scene.a.ping(scene.b.peerID, count: 3).count == 3)
        for (node, other) in [(scene.a, scene.b), (scene.b, scene.a)] {
            let status = try #require(try await node.status(of: other.peerID))
            #expect(status.path == .relayed)
            #expect(status.transport == (place.contains("quic") ? .quic : .tcp))
            #expect(status.address == CircuitAddress.remoteAddress(through: scene.relay.node.peerID))
            #expect(!status.isLimited)
        }
        try await scene.pair.checkEcho(byteCount: 4 << 20)
        try await scene.pair.checkManyStreams()
        await scene.stop()
    }

    @Test func aSlowReaderBehindARelaySlowsItsWriterAndLosesNothing() async throws {
        let scene = try await RelayedPair()
        scene.b.handle("/slow/1") { stream in
            try await Task.sleep(for: .milliseconds(200))
            var total = 0
            while let bytes = try await stream.read() { total += bytes.count }
            try await stream.write(Bytes(utf8: "\(total)"))
        }
        try await scene.connect()
        let stream = try await scene.a.openStream(to: scene.b.peerID, protocol: "/slow/1")
        for _ in 0..<64 { try await stream.write(Bytes([UInt8](repeating: 1, count: 256 << 10))) }
        try await stream.finish()
        #expect(try await stream.read(exactly: 8) == Array("16777216".utf8))
        await scene.stop()
    }

    @Test func aPeerIsFoundAgainThroughTheRelayItAnnounced() async throws {
        let scene = try await RelayedPair()
        try await scene.connect()
        try await scene.a.ping(scene.b.peerID)
        try await scene.a.disconnect(from: scene.b.peerID)
        while try await scene.a.status(of: scene.b.peerID) != nil { try await Task.sleep(for: .milliseconds(5)) }
        // The peer id alone is enough.
        try await scene.a.connect(to: scene.b.peerID)
        #expect(try await scene.a.status(of: scene.b.peerID)?.path == .relayed)
        await scene.stop()
    }

    @Test func theLimitOfARelayIsVisibleAndNamedWhenItIsReached() async throws {
        let scene = try await RelayedPair()
        serveEcho(scene.b)
        let limit = ConnectionLimit(duration: .seconds(120), byteCount: 300_000)
        scene.relay.behave(.resets(afterBytes: 300_000, limit: limit))
        let events = scene.a.subscribeToEvents()
        try await scene.connect()
        for (node, other) in [(scene.a, scene.b), (scene.b, scene.a)] {
            let status = try #require(try await node.status(of: other.peerID))
            #expect(status.limit == limit && status.isLimited)
        }
        let stream = try await scene.a.openStream(to: scene.b.peerID, protocol: "/echo/1")
        await #expect(throws: MartletError.self) {
            for _ in 0..<100 { try await stream.write(Bytes([UInt8](repeating: 1, count: 64 << 10))) }
            _ = try await stream.read(exactly: 100 * (64 << 10))
        }
        for await case .disconnected(scene.b.peerID, let reason) in events {
            #expect(reason.contains("limit of 120.0 seconds or 300000 bytes each way"))
            break
        }
        await scene.stop()
    }

    @Test func whatARelayAnswersInsteadIsSaid() async throws {
        let scene = try await RelayedPair()
        scene.relay.behave(.answers(HopMessage.status(.noReservation).encoded))
        #expect(try await scene.failure().contains("the relay answered NO_RESERVATION"))
        scene.relay.behave(.answers(HopMessage.status(CircuitStatus(rawValue: 777)).encoded))
        #expect(try await scene.failure().contains("the relay answered status 777"))
        scene.relay.behave(.answers(HopMessage.reserve.encoded))
        #expect(try await scene.failure().contains("not a status"))
        scene.relay.behave(.answers([3, 0xFF, 0xFF, 0xFF]))
        #expect(try await scene.failure().contains("not a valid protobuf"))
        scene.relay.behave(.answers(Varint.encode(1 << 40)))
        #expect(try await scene.failure().contains("the limit is 4096"))
        // Ends within its message.
        scene.relay.behave(.answers([10, 1]))
        #expect(try await scene.failure().contains("without an answer"))
        scene.relay.behave(.answers([]))
        #expect(try await scene.failure().contains("without an answer"))
        scene.relay.behave(.resetsBeforeAnswer)
        #expect(try await scene.failure().contains("reset by the peer"))
        scene.relay.behave(.resetsAfterAnswer)
        // The reset may overtake the answer.
        #expect(try await scene.failure().contains("reset"))
        // Nothing of it stays behind: the relay that behaves is used as before.
        scene.relay.behave(.relays())
        try await scene.connect()
        await scene.stop()
    }

    @Test func aRelayThatLiesAboutTheCallerIsFoundOut() async throws {
        let scene = try await RelayedPair()
        scene.relay.behave(.claims(KeyPair.generate().peerID))
        let events = scene.b.subscribeToEvents()
        // The caller proves who it is with its last message, and may take the connection for made until the answer.
        _ = try? await scene.connect()
        while try await scene.a.status(of: scene.b.peerID) != nil { try await Task.sleep(for: .milliseconds(5)) }
        await scene.b.stop()
        for await event in events {
            if case .connected(let peer, _, _) = event { #expect(peer != scene.a.peerID) }
        }
        await scene.stop()
    }

    @Test func aStrangerMayBringNobody() async throws {
        let scene = try await RelayedPair()
        // A peer like any other, which b did not ask for anything.
        try await scene.connect()
        var talk = MessageStream(
            try await scene.a.openStream(to: scene.b.peerID, protocol: Circuit.stopProtocolID))
        try await talk.send(StopMessage.connect(from: KeyPair.generate().peerID).encoded)
        #expect(try StopMessage(await talk.message()) == .status(.permissionDenied))
        let peers = try await scene.b.peers().map(\.peer)
        #expect(Set(peers) == [scene.a.peerID, scene.relay.node.peerID])
        await scene.stop()
    }

    @Test func whatIsNoRequestIsRefused() async throws {
        let scene = try await RelayedPair()
        func answer(to bytes: [UInt8]) async throws -> StopMessage {
            var talk = MessageStream(
                try await scene.relay.node.openStream(to: scene.b.peerID, protocol: Circuit.stopProtocolID))
            try await talk.send(bytes)
            return try StopMessage(await talk.message())
        }
        #expect(try await answer(to: StopMessage.status(.ok).encoded) == .status(.unexpectedMessage))
        #expect(try await answer(to: [2, 0xFF, 0xFF]) == .status(.malformedMessage))
        #expect(try await answer(to: Varint.encode(5000)) == .status(.malformedMessage))
        // A relay that is already gone on when it is answered.
        var eager = MessageStream(
            try await scene.relay.node.openStream(to: scene.b.peerID, protocol: Circuit.stopProtocolID))
        try await eager.send(
            StopMessage.connect(from: scene.a.peerID).encoded + [UInt8](repeating: 0x41, count: 100_000))
        await #expect(throws: (any Error).self) {
            _ = try await eager.message()
            while try await eager.read() != nil {}
            throw MartletError(.streamEnded, "closed without a handshake")
        }
        try await scene.connect()
        await scene.stop()
    }

    @Test func aRelayMayBeOfAnotherNetworkWhatItBringsMayNot() async throws {
        let relay = try await ScriptedRelay {
            $0.network = "another"
            $0.isNetworkExclusive = false
        }
        let address = relay.address
        func node(_ network: String, relayed: Bool) async throws -> Node {
            try await NodePair.node {
                $0.network = network
                if relayed { $0.relays = [address] }
            }
        }
        let target = try await node("mesh", relayed: true)
        try await RelayedPair.waitForReservation(target)
        let member = try await node("mesh", relayed: false)
        try await member.connect(to: relay.circuit(to: target.peerID))
        try await member.ping(target.peerID)
        let stranger = try await node("elsewhere", relayed: false)
        try await stranger.connect(to: relay.circuit(to: target.peerID))
        while try await stranger.status(of: target.peerID) != nil { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await member.status(of: target.peerID) != nil)
        for node in [stranger, member, target, relay.node] { await node.stop() }
    }

    @Test func aNodeWithoutRelaysTakesNoRelayedConnections() async throws {
        let pair = try await NodePair()
        try await pair.connect()
        let error = await #expect(throws: MartletError.self) {
            try await pair.a.openStream(to: pair.b.peerID, protocol: Circuit.stopProtocolID)
        }
        #expect(error?.code == .protocolNotSupported)
        await pair.stop()
    }

    @Test func aRelayIsNotReachedThroughARelay() async throws {
        let scene = try await RelayedPair()
        // The only way known to the second relay leads through the first.
        try await scene.connect()
        try await scene.a.ping(scene.b.peerID)
        let target = KeyPair.generate().peerID
        let error = await #expect(throws: MartletError.self) {
            try await scene.a.connect(
                to: CircuitAddress.remoteAddress(through: scene.b.peerID).encapsulating(peer: target))
        }
        #expect(error?.message.contains("the relay cannot be reached") == true)
        await scene.stop()
    }

    @Test func aRestartedRelayIsFoundAgain() async throws {
        let identity = KeyPair.generate()
        let scene = try await RelayedPair()
        let first = try await ScriptedRelay { $0.identity = identity }
        let address = first.address
        let node = try await NodePair.node { $0.relays = [address] }
        try await RelayedPair.waitForReservation(node)
        let events = node.subscribeToEvents()
        await first.node.stop()
        let second = try await ScriptedRelay {
            $0.identity = identity
            $0.listenAddresses = [address.withoutPeerID]
        }
        var lost = false
        for await event in events {
            if case .relayLost(identity.peerID, _) = event { lost = true }
            if case .relayReserved(identity.peerID, _) = event { break }
        }
        #expect(lost)
        try await scene.a.connect(to: second.circuit(to: node.peerID))
        await node.stop()
        await second.node.stop()
        await scene.stop()
    }

    @Test func aRelayThatRefusesIsAskedAgain() async throws {
        let relay = try await ScriptedRelay()
        relay.answerReservations([
            HopMessage.status(.reservationRefused).encoded, [1, 0xFF], HopMessage.status(.ok).encoded,
        ])
        let address = relay.address
        let node = try await NodePair.node {
            $0.relays = [address]
            $0.reservations.firstRetryDelay = .milliseconds(20)
            $0.reservations.firstFailureDelay = .milliseconds(20)
        }
        try await RelayedPair.waitForReservation(node)
        #expect(relay.reservations == 4)
        #expect(try await node.relays().first?.lastFailure == nil)
        await node.stop()
        await relay.node.stop()
    }

    @Test func aPeerThatIsFoundDirectlyIsUsedDirectly() async throws {
        let scene = try await RelayedPair()
        try await scene.connect()
        let events = scene.a.subscribeToEvents()
        // b dials a: the same two peers, now without the relay.
        try await scene.b.connectDirectly(to: scene.a.peerID, at: scene.a.listenAddresses)
        for await case .pathChanged(scene.b.peerID, let path) in events {
            #expect(path == .lan)
            break
        }
        #expect(try await scene.b.status(of: scene.a.peerID)?.path == .lan)
        // The relayed connection goes when nobody uses it.
        while try await scene.a.peers().contains(where: { $0.path == .relayed }) {
            try await Task.sleep(for: .milliseconds(20))
        }
        try await scene.pair.checkEcho(byteCount: 100_000)
        await scene.stop()
    }
}
