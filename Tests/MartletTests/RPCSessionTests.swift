import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization
import Testing

@testable import Martlet

/// Sessions made by hand, as a peer that is no `Node` would.
private struct RawLane {
    let stream: MeshStream

    init(from node: Node, to peer: PeerID) async throws {
        stream = try await node.openStream(to: peer, protocol: NodeRPC.protocolID)
    }

    /// Says hello and returns the answer.
    func greet(_ id: UInt64, lane: RPCPriority = .activation, isResumed: Bool = false, received: Int64 = 0) async throws
        -> RPCWelcome?
    {
        let hello = RPCHello(
            session: RPCSessionID(high: 0, low: id), lane: lane, isResumed: isResumed, receivedCount: received, link: 1)
        try await stream.write(hello.encoded)
        var bytes: [UInt8] = []
        while let part = try await stream.read() {
            bytes += part.array
            let all = bytes
            if let (welcome, _) = try RPCWelcome.decode(all.span.bytes) { return welcome }
        }
        return nil
    }
}

private func pairOfNodes(sessionsPerPeer: Int = 2) async throws -> NodePair {
    let pair = try await NodePair { $0.rpc.sessionsPerPeer = sessionsPerPeer }
    try await pair.connect()
    return pair
}

@Test func sessionsBeyondAPeersLimitAreRefusedUntilOneIsCutOff() async throws {
    let pair = try await pairOfNodes()
    var lanes: [RawLane] = []
    for id in 1...2 as ClosedRange<UInt64> {
        let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
        #expect(try await lane.greet(id)?.status == .welcome)
        lanes.append(lane)
    }
    let third = try await RawLane(from: pair.a, to: pair.b.peerID)
    #expect(try await third.greet(3)?.status == .tooManySessions)
    // One that lost its streams and serves nothing makes room.
    lanes[0].stream.reset()
    while true {
        let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
        if try await lane.greet(3)?.status == .welcome { break }
    }
    await pair.stop()
}

@Test func aSessionThatIsNotKnownIsNotResumed() async throws {
    let pair = try await pairOfNodes()
    let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
    #expect(try await lane.greet(9, isResumed: true)?.status == .unknownSession)
    await pair.stop()
}

@Test func aSessionBelongsToThePeerThatBeganIt() async throws {
    let pair = try await pairOfNodes()
    let stranger = try await NodePair.node()
    try await stranger.connect(to: pair.b.listenAddresses[0])
    let own = try await RawLane(from: pair.a, to: pair.b.peerID)
    #expect(try await own.greet(7)?.status == .welcome)
    let other = try await RawLane(from: stranger, to: pair.b.peerID)
    #expect(try await other.greet(7, isResumed: true)?.status == .unknownSession)
    // The session of that name that the stranger begins is another.
    let fresh = try await RawLane(from: stranger, to: pair.b.peerID)
    #expect(try await fresh.greet(7)?.status == .welcome)
    #expect(pair.b.rpc.linkCount == 2)
    await stranger.stop()
    await pair.stop()
}

@Test func aHelloThatCannotBeResetsItsStream() async throws {
    let pair = try await pairOfNodes()
    for bytes in [Bytes([9, 9, 9]), Bytes([1] + [UInt8](repeating: 0, count: 16) + [7, 0, 0])] {
        let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
        try await lane.stream.write(bytes)
        await #expect(throws: MartletError.self) { while try await lane.stream.read() != nil {} }
    }
    // More frames received than were ever sent.
    let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
    await #expect(throws: MartletError.self) {
        #expect(try await lane.greet(5, received: 3) == nil)
        throw MartletError(.streamReset, "ended without a welcome")
    }
    await pair.stop()
}

@Test func brokenFramesEndTheirSessionAlone() async throws {
    let pair = try await pairOfNodes(sessionsPerPeer: 8)
    pair.b.rpc.register("Test") { service in service.unary("echo") { request, _ in request } }
    let lane = try await RawLane(from: pair.a, to: pair.b.peerID)
    #expect(try await lane.greet(1)?.status == .welcome)
    try await lane.stream.write([0xFF, 0xFF, 0xFF])
    await #expect(throws: MartletError.self) { while try await lane.stream.read() != nil {} }
    #expect(try await pair.a.call(pair.b.peerID, "Test.echo", "still here").text == "still here")
    await pair.stop()
}

@Test func aServiceThatIsReplacedIsCalledInItsNewForm() async throws {
    let pair = try await pairOfNodes()
    for version in ["one", "two"] {
        pair.b.rpc.register("Test") { service in service.unary("version") { _, _ in RPCMessage(utf8: version) } }
        for _ in 0..<2 { #expect(try await pair.a.call(pair.b.peerID, "Test.version").text == version) }
    }
    pair.b.rpc.unregister("Test")
    let gone = await #expect(throws: RPCError.self) { try await pair.a.call(pair.b.peerID, "Test.version") }
    #expect(gone?.code == .unimplemented)
    await pair.stop()
}

@Test func aDroppedStreamCancelsItsHandler() async throws {
    let (events, continuation) = AsyncStream<String>.makeStream()
    let pair = try await pairOfNodes()
    pair.b.rpc.register("Test") { service in
        service.serverStreaming("endless") { _, writer, _ in
            do {
                while true { try await writer.write("item") }
            } catch {
                continuation.yield("ended")
            }
        }
    }
    do {
        let call = try await pair.a.openCall(pair.b.peerID, "Test.endless", "go")
        #expect(try await call.next()?.text == "item")
    }
    var iterator = events.makeAsyncIterator()
    #expect(await iterator.next() == "ended")
    await pair.stop()
}

@Test func aReaderThatIsCancelledStopsWaiting() async throws {
    let pair = try await pairOfNodes()
    pair.b.rpc.register("Test") { service in
        service.serverStreaming("silent") { _, _, _ in try await Task.sleep(for: .seconds(600)) }
    }
    let call = try await pair.a.openCall(pair.b.peerID, "Test.silent", "go")
    let reader = Task { try await call.next() }
    reader.cancel()
    await #expect(throws: CancellationError.self) { try await reader.value }
    await pair.stop()
}

@Test func aNodeThatSpeaksNoCallsIsATypedError() async throws {
    let pair = try await pairOfNodes()
    pair.b.stopHandling(NodeRPC.protocolID)
    let failed = await #expect(throws: RPCError.self) { try await pair.a.call(pair.b.peerID, "Test.echo") }
    #expect(failed?.code == .unimplemented)
    #expect(failed?.outcome == .notSent)
    await pair.stop()
}

/// Says welcome and ends the stream at once, every time.
@Test func aPeerThatKeepsClosingItsStreamsEndsTheCall() async throws {
    let pair = try await pairOfNodes()
    let opened = Atomic<Int>(0)
    pair.b.handle(NodeRPC.protocolID) { stream in
        opened.add(1, ordering: .relaxed)
        _ = try await stream.read()
        try await stream.write(RPCWelcome(status: .welcome, callLimit: 10, messageLimit: 1000).encoded)
        stream.reset()
    }
    let failed = await #expect(throws: RPCError.self) { try await pair.a.call(pair.b.peerID, "Test.echo") }
    #expect(failed?.code == .unavailable)
    #expect(opened.load(ordering: .relaxed) <= 4)
    await pair.stop()
}

private struct Observed {
    weak var session: RPCPeer?
}

/// While its timer is set a session keeps itself; when it is over, nothing does.
@Test(.timeLimit(.minutes(10)), arguments: [true, false])
func aSessionThatIsOverIsLetGo(callerStops: Bool) async throws {
    let pair = try await pairOfNodes()
    _ = try await pair.a.call(pair.b.peerID, NodeRPC.listPath)
    let observed = Observed(session: try pair.a.rpc.caller(for: pair.b.peerID))
    #expect(observed.session != nil)
    await (callerStops ? pair.a : pair.b).stop()
    while observed.session != nil { try await Task.sleep(for: .milliseconds(5)) }
    await pair.stop()
}
