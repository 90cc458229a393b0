import Logging
import Martlet
import MartletCore
import MartletIdentity
import TemporaryFiles
import Testing

@Test func nodesConnectAndKnowEachOther() async throws {
    let pair = try await NodePair()
    try await pair.connect()
    #expect(try await pair.a.peers().map(\.peer) == [pair.b.peerID])
    let times = try await pair.a.ping(pair.b.peerID, count: 3)
    #expect(times.count == 3)
    #expect(try await pair.b.peers().map(\.peer) == [pair.a.peerID])
    await pair.stop()
}

@Test func anEchoOfManyMegabytesIsExact() async throws {
    let pair = try await NodePair()
    try await pair.connect()
    try await pair.checkEcho(byteCount: 8 << 20)
    await pair.stop()
}

@Test func manyStreamsAtOnceKeepTheirBytesApart() async throws {
    let pair = try await NodePair()
    try await pair.connect()
    try await pair.checkManyStreams()
    await pair.stop()
}

@Test func aProtocolNotServedIsATypedError() async throws {
    let pair = try await NodePair()
    try await pair.connect()
    let error = await #expect(throws: MartletError.self) {
        try await pair.a.openStream(to: pair.b.peerID, protocol: "/nobody/1")
    }
    #expect(error?.code == .protocolNotSupported)
    await pair.stop()
}

@Test func dialingTheWrongPeerNamesBoth() async throws {
    let pair = try await NodePair()
    let stranger = KeyPair.generate().peerID
    let address = try pair.b.listenAddresses[0].withoutPeerID.encapsulating(peer: stranger)
    let error = await #expect(throws: MartletError.self) { try await pair.a.connect(to: address) }
    #expect(error?.message.contains("\(stranger)") == true)
    #expect(error?.message.contains("\(pair.b.peerID)") == true)
    await pair.stop()
}

@Test func aPortInUseIsNamed() async throws {
    let node = try await NodePair.node()
    let taken = node.listenAddresses[0].withoutPeerID
    let error = await #expect(throws: MartletError.self) {
        try await Node.start { $0.listenAddresses = [taken] }
    }
    #expect(error?.message.contains("127.0.0.1:\(taken.port ?? 0)") == true)
    await node.stop()
}

@Test func aDialNobodyAnswersSaysWhy() async throws {
    let node = try await NodePair.node()
    let error = await #expect(throws: MartletError.self) {
        try await node.connect(to: Multiaddr("/ip4/127.0.0.1/tcp/1"))
    }
    #expect(error?.code == .dialFailed)
    #expect(error?.message.contains("refused") == true)
    await node.stop()
}

@Test func aSlowReaderSlowsItsWriterAndLosesNothing() async throws {
    let pair = try await NodePair()
    pair.b.handle("/slow/1") { stream in
        try await Task.sleep(for: .milliseconds(500))
        var total = 0
        while let bytes = try await stream.read() { total += bytes.count }
        try await stream.write(Bytes(utf8: "\(total)"))
    }
    try await pair.connect()
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/slow/1")
    let block = Bytes([UInt8](repeating: 1, count: 65_536))
    for _ in 0..<200 { try await stream.write(block) }
    try await stream.finish()
    let answer = try #require(try await stream.read())
    #expect(String(decoding: answer.array, as: UTF8.self) == "\(200 * 65_536)")
    await pair.stop()
}

@Test func aResetEndsTheOtherSideWithAnError() async throws {
    let pair = try await NodePair()
    pair.b.handle("/reset/1") { stream in
        _ = try await stream.read()
        throw MartletError(.internalError, "the handler gives up")
    }
    try await pair.connect()
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/reset/1")
    try await stream.write(Bytes([1]))
    let error = await #expect(throws: MartletError.self) { try await stream.read() }
    #expect(error?.code == .streamReset)
    await pair.stop()
}

@Test func aBlockedHandlerStallsNobodyElse() async throws {
    let pair = try await NodePair()
    serveEcho(pair.b)
    let gate = BlockingGate()
    pair.b.handle("/block/1") { _ in gate.wait() }
    try await pair.connect()
    for _ in 0..<3 {
        let blocked = try await pair.a.openStream(to: pair.b.peerID, protocol: "/block/1")
        try await blocked.write(Bytes([1]))
    }
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/echo/1")
    try await stream.write(Bytes([7]))
    #expect(try await stream.read(exactly: 1) == [7])
    // The answer came although the handlers above still hold their threads.
    #expect(gate.openAndCountTimeouts() == 0)
    await pair.stop()
}

@Test func eventsTellOfConnectionsMadeAndLost() async throws {
    let pair = try await NodePair()
    var events = pair.a.subscribeToEvents().makeAsyncIterator()
    try await pair.connect()
    guard case .connected(pair.b.peerID, _, true)? = await events.next() else {
        Issue.record("no connected event")
        return
    }
    await pair.b.stop()
    while let event = await events.next() {
        if case .disconnected(let peer, _) = event {
            #expect(peer == pair.b.peerID)
            break
        }
    }
    #expect(try await pair.a.peers().isEmpty)
    await pair.a.stop()
}

@Test func aCancelledReadReturnsAtOnce() async throws {
    let pair = try await NodePair()
    serveEcho(pair.b)
    try await pair.connect()
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/echo/1")
    let reader = Task { try await stream.read() }
    try await Task.sleep(for: .milliseconds(50))
    reader.cancel()
    await #expect(throws: CancellationError.self) { try await reader.value }
    // The stream itself goes on.
    try await stream.write(Bytes([9]))
    #expect(try await stream.read(exactly: 1) == [9])
    await pair.stop()
}

@Test func aStoppedNodeRefusesWork() async throws {
    let pair = try await NodePair()
    await pair.a.stop()
    let error = await #expect(throws: (any Error).self) { try await pair.a.connect(to: pair.b.listenAddresses[0]) }
    #expect(error != nil)
    await pair.b.stop()
}

@Test func peersAndKeySurviveARestart() async throws {
    let directory = TemporaryDirectory()
    let other = try await NodePair.node()
    let first = try await NodePair.node { $0.dataDirectory = directory.path }
    try await first.connect(to: other.listenAddresses[0])
    _ = try await first.ping(other.peerID)
    await first.stop()
    let second = try await NodePair.node { $0.dataDirectory = directory.path }
    #expect(second.peerID == first.peerID)
    // The address is remembered, so the peer id alone is enough.
    try await second.connect(to: other.peerID)
    await second.stop()
    await other.stop()
}

@Test func nodesTalkOverAUnixSocket() async throws {
    let directory = TemporaryDirectory()
    let server = try await NodePair.node { $0.listenAddresses = [try! Multiaddr("/unix\(directory.path)/mesh.sock")] }
    serveEcho(server)
    let client = try await NodePair.node()
    try await client.connect(to: server.listenAddresses[0])
    let stream = try await client.openStream(to: server.peerID, protocol: "/echo/1")
    try await stream.write(Bytes([1, 2, 3]))
    #expect(try await stream.read(exactly: 3) == [1, 2, 3])
    await client.stop()
    await server.stop()
}

@Test func aHandlerThatAnswersAndReturnsDoesNotResetAnAskerThatHasNotFinished() async throws {
    let pair = try await NodePair()
    pair.b.handle("/answer/1") { stream in
        _ = try await stream.read(exactly: 1)
        try await stream.write(Bytes(utf8: "the answer"))
    }
    try await pair.connect()
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/answer/1")
    try await stream.write(Bytes(utf8: "?"))
    // A ping comes back after whatever was sent before it, a reset among it.
    #expect(try await stream.read(exactly: 10) == Array("the answer".utf8))
    try await pair.a.ping(pair.b.peerID)
    #expect(try await stream.read() == nil)
    try await stream.write(Bytes(utf8: "still open in this direction"))
    try await stream.finish()
    await pair.stop()
}

@Test func aStreamDroppedUnfinishedIsReset() async throws {
    let pair = try await NodePair()
    pair.b.handle("/hold/1") { stream in
        _ = try await stream.read(exactly: 1)
        throw CancellationError()
    }
    try await pair.connect()
    let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: "/hold/1")
    try await stream.write(Bytes(utf8: "?"))
    let error = await #expect(throws: MartletError.self) { try await stream.read() }
    #expect(error?.code == .streamReset)
    await pair.stop()
}

@Test func theConfiguredListenerMissesNothing() async throws {
    let pair = try await NodePair()
    let events = AsyncStream.makeStream(of: NodeEvent.self)
    let address = pair.b.listenAddresses[0]
    let node = try await Node.start {
        $0.events = events.continuation
        $0.peers = [address]
    }
    // Whoever subscribes now is too late.
    while try await node.peers().isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    var iterator = events.stream.makeAsyncIterator()
    guard case .connected(pair.b.peerID, _, true)? = await iterator.next() else {
        Issue.record("the first event is not the connection")
        return
    }
    await node.stop()
    var wasDisconnected = false
    while let event = await iterator.next() {
        if case .disconnected(pair.b.peerID, _) = event { wasDisconnected = true }
    }
    #expect(wasDisconnected)
    await pair.stop()
}
