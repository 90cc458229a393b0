import MartletCore
import MartletIdentity
import MartletRPC
import MartletRuntime
import Synchronization
import Testing

@testable import Martlet

/// A node that holds layers of a model and says who it is.
private func holder(
    _ layers: Range<Int>, capacity: Int = 4, _ configure: (inout NodeConfiguration) -> Void = { _ in }
) async throws -> Node {
    let node = try await NodePair.node(configure)
    node.rpc.register("Model") { service in
        service.unary("forward") { [peer = node.peerID] _, _ in RPCMessage(utf8: "\(peer)") }
    }
    try node.shards.register(model: "M", layers: layers, capacity: capacity)
    return node
}

/// Waits until `node` knows as many holders.
private func waitForHolders(_ count: Int, at node: Node) async throws {
    while node.shards.known.filter({ !$0.shards.isEmpty }).count < count { try await Task.sleep(for: .milliseconds(5)) }
}

@Test func aCallGoesToWhoHoldsTheLayer() async throws {
    let caller = try await NodePair.node()
    let first = try await holder(0..<16)
    let second = try await holder(16..<32)
    for node in [first, second] { try await caller.connect(to: node.listenAddresses[0]) }
    let none = await #expect(throws: RPCError.self) {
        try await caller.call(shard: .layer(40, of: "M"), "Model.forward", "x")
    }
    #expect(none?.outcome == .notSent)
    try await waitForHolders(2, at: caller)
    #expect(try await caller.call(shard: .layer(3, of: "M"), "Model.forward", "x").text == "\(first.peerID)")
    #expect(try await caller.call(shard: .layer(20, of: "M"), "Model.forward", "x").text == "\(second.peerID)")
    for node in [caller, first, second] { await node.stop() }
}

@Test func aChangeIsToldToConnectedPeers() async throws {
    let caller = try await NodePair.node()
    let node = try await holder(0..<8)
    try await caller.connect(to: node.listenAddresses[0])
    try await waitForHolders(1, at: caller)
    node.shards.unregister(model: "M", layers: 0..<8)
    try node.shards.register(model: "M", layers: 8..<16)
    while caller.shards.known.first?.shards.first?.layers != 8..<16 { try await Task.sleep(for: .milliseconds(5)) }
    #expect(try await caller.call(shard: .layer(9, of: "M"), "Model.forward", "x").text == "\(node.peerID)")
    for node in [caller, node] { await node.stop() }
}

@Test func aHolderThatIsTooBusyToSayWhatItHoldsIsAskedAgain() async throws {
    let caller = try await NodePair.node()
    let busy = try await NodePair.node()
    let shard = ShardRegistration(model: "M", layers: 0..<16, capacity: 4)
    let list = ShardList(sequence: 1, shards: [shard]).encoded
    let asked = Mutex(0)
    busy.rpc.register("martlet.Shards") { service in
        service.unary("list") { _, _ in
            let count = asked.withLock {
                $0 += 1
                return $0
            }
            guard count > 2 else { throw RPCError(.unavailable, "busy") }
            return RPCMessage(list)
        }
    }
    #expect(caller.shards.known.isEmpty)
    try await caller.connect(to: busy.listenAddresses[0])
    try await waitForHolders(1, at: caller)
    #expect(asked.withLock(\.self) >= 3)
    for node in [caller, busy] { await node.stop() }
}

@Test func aCallMovesToAnotherHolderWhenOneIsGone() async throws {
    let caller = try await NodePair.node()
    let holders = [try await holder(0..<16), try await holder(0..<16)]
    for node in holders { try await caller.connect(to: node.listenAddresses[0]) }
    try await waitForHolders(2, at: caller)
    // The key's own holder stops; its calls go to the other.
    let chosen = try await caller.call(shard: .layer(1, of: "M"), "Model.forward", "x", affinity: "session 1").text
    let gone = try #require(holders.first { "\($0.peerID)" == chosen })
    let left = try #require(holders.first { "\($0.peerID)" != chosen })
    await gone.stop()
    let reply = try await caller.call(
        shard: .layer(1, of: "M"), "Model.forward", "x", affinity: "session 1", options: .init(idempotent: true))
    #expect(reply.text == "\(left.peerID)")
    for node in [caller, left] { await node.stop() }
}

/// A holder that vanishes without a word, in the middle of a call: another takes it over when the connection is given up, long
/// before the session would be.
@Test(.timeLimit(.minutes(10)))
func aCallMovesToAnotherHolderWhenOneVanishes() async throws {
    let caller = try await NodePair.node { $0.rpc.resumeWindow = .seconds(3600) }
    let place = try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
    let vanishing = try await holder(0..<16) { $0.listenAddresses = [place] }
    let other = try await holder(0..<16)
    let started = AsyncStream.makeStream(of: Void.self)
    for node in [vanishing, other] {
        node.rpc.register("Slow") { service in
            service.unary("forward") { [peer = node.peerID, isVanishing = node === vanishing] _, _ in
                started.continuation.yield()
                if isVanishing { try await Task.sleep(for: .seconds(3600)) }
                return RPCMessage(utf8: "\(peer)")
            }
        }
    }
    let forwarder = try await UDPForwarder(
        to: try #require(SocketAddress(vanishing.listenAddresses[0].withoutPeerID)))
    let way = try #require(forwarder.address.quicMultiaddr)
    try await caller.connect(to: way.encapsulating(peer: vanishing.peerID))
    try await caller.connect(to: other.listenAddresses[0])
    try await waitForHolders(2, at: caller)
    // A key whose calls go to the one that is to vanish.
    var key = 0
    while try await caller.call(shard: .layer(1, of: "M"), "Model.forward", "x", affinity: "\(key)").text
        != "\(vanishing.peerID)"
    { key += 1 }
    async let reply = caller.call(
        shard: .layer(1, of: "M"), "Slow.forward", "x", affinity: "\(key)", options: .init(idempotent: true))
    var starts = started.stream.makeAsyncIterator()
    _ = await starts.next()
    try await forwarder.letPass(false)
    #expect(try await reply.text == "\(other.peerID)")
    for node in [caller, vanishing, other] { await node.stop() }
    await forwarder.stop()
}
