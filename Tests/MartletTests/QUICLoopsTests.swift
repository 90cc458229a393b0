import MartletCore
import MartletIdentity
import MartletRuntime
import Testing

@testable import Martlet

/// Nodes whose QUIC address is served by several loops.
@Suite struct QUICLoopsTests {
    private func node(loops: Int, listens: Bool = true) async throws -> Node {
        let address = try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
        let node = try await NodePair.node { configuration in
            configuration.listenAddresses = listens ? [address] : []
            configuration.loopCount = loops
        }
        serveEcho(node)
        return node
    }

    /// The loop of a node's connection with a peer.
    private func loop(of node: Node, with peer: Node) async throws -> ObjectIdentifier {
        ObjectIdentifier(try await node.driver.connectionDriver(for: peer.peerID).loop)
    }

    private func stop(_ nodes: [Node]) async {
        for node in nodes { await node.stop() }
    }

    @Test func connectionsOfOneAddressLiveOnSeveralLoops() async throws {
        let server = try await node(loops: 4)
        var clients: [Node] = []
        for _ in 0..<12 {
            let client = try await node(loops: 1, listens: false)
            try await client.connect(to: server.listenAddresses[0])
            clients.append(client)
        }
        try await withThrowingTaskGroup { group in
            for client in clients {
                group.addTask {
                    #expect(try await client.ping(server.peerID, count: 2).count == 2)
                    let stream = try await client.openStream(to: server.peerID, protocol: "/echo/1")
                    let sent = [UInt8](repeating: 7, count: 300_000)
                    async let writing: Void = stream.write(Bytes(sent))
                    #expect(try await stream.read(exactly: sent.count) == sent)
                    try await writing
                }
            }
            try await group.waitForAll()
        }
        var loops: Set<ObjectIdentifier> = []
        for client in clients { loops.insert(try await loop(of: server, with: client)) }
        // Which ones, the random ids of the clients decide.
        #expect(loops.count > 1)
        await stop(clients + [server])
    }

    @Test func dialsFromTheListeningPortTakeTheLoopsInTurn() async throws {
        let dialer = try await node(loops: 3)
        var peers: [Node] = []
        var loops: Set<ObjectIdentifier> = []
        var seen: Set<Multiaddr> = []
        for _ in 0..<3 {
            let peer = try await node(loops: 1)
            peers.append(peer)
            try await dialer.connect(to: peer.listenAddresses[0])
            #expect(try await dialer.ping(peer.peerID, count: 2).count == 2)
            #expect(try await peer.ping(dialer.peerID, count: 2).count == 2)
            loops.insert(try await loop(of: dialer, with: peer))
            seen.insert(try #require(try await peer.peers().first).address)
        }
        #expect(loops.count == 3)
        #expect(seen == [dialer.listenAddresses[0].withoutPeerID])
        await stop(peers + [dialer])
    }

    @Test func aNodeOfOneLoopHasOneSocket() async throws {
        let node = try await node(loops: 1)
        #expect(try await node.driver.onHome { $0.quicSockets.map { $0.group == nil } } == [true])
        await node.stop()
    }

    @Test func aStoppedNodeGivesThePortBack() async throws {
        let first = try await node(loops: 3)
        let place = first.listenAddresses[0].withoutPeerID
        let client = try await node(loops: 1)
        try await client.connect(to: first.listenAddresses[0])
        await first.stop()
        let second = try await NodePair.node { configuration in
            configuration.listenAddresses = [place]
            configuration.loopCount = 3
        }
        try await client.connect(to: second.listenAddresses[0])
        await stop([client, second])
    }

    /// The kernel joins datagrams of one sender: those behind the first may be no QUIC, for which the first socket is there.
    @Test func whatIsNotQUICIsHandedToTheFirstSocket() async throws {
        let server = try await node(loops: 3)
        let sockets = try await server.driver.onHome { $0.quicSockets[0].group?.members ?? [] }
        #expect(sockets.count == 3)
        let received = try await withCheckedThrowingContinuation { continuation in
            let loop = sockets[0].loop
            loop.execute {
                // A question of STUN that came to the third socket is answered from the address of all.
                let asker = Asker(continuation)
                do {
                    let socket = try DatagramSocket.bind(loop: loop, address: .loopback(port: 0))
                    socket.delegate = asker
                    asker.socket = socket
                    var question: [UInt8] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]
                    question += [UInt8](repeating: 5, count: 12)
                    let local = socket.localAddress
                    sockets[2].loop.execute { [question] in sockets[2].take(question, local) }
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
        #expect(received.0.prefix(2) == [1, 1])
        #expect(received.1 == sockets[0].address)
        await server.stop()
    }
}

private final class Asker: DatagramSocketDelegate {
    private var continuation: CheckedContinuation<([UInt8], SocketAddress), any Error>?
    var socket: DatagramSocket?

    init(_ continuation: CheckedContinuation<([UInt8], SocketAddress), any Error>) { self.continuation = continuation }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        continuation?.resume(returning: (region.slice(0..<region.count).array, address))
        continuation = nil
        socket?.close()
        socket = nil
    }
}
