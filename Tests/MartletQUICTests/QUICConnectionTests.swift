import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport
import Testing

@testable import MartletQUIC

@Suite struct QUICConnectionTests {
    // MARK: The handshake

    @Test func bothSidesLearnWhoTheOtherIs() throws {
        let pair = try QUICHarness.established()
        #expect(pair.dialer.remote?.peerID == pair.server.key.peerID)
        #expect(pair.listener.remote?.peerID == pair.client.key.peerID)
        #expect(pair.dialer.remote?.publicKey == pair.server.key.publicKey)
    }

    @Test func anotherPeerThanTheExpectedIsRefusedBeforeAnythingIsSent() throws {
        let other = KeyPair.generate().peerID
        let pair = try QUICHarness(expecting: other)
        pair.settle()
        let wrong = HandshakeError.wrongPeer(expected: other, actual: pair.server.key.peerID)
        #expect(pair.dialer.closeReasons == [.handshakeFailed(wrong)])
        #expect(pair.dialer.remote == nil)
        #expect(pair.listener.remote == nil)
        #expect(pair.listener.closeReasons == [.handshakeFailed(.tlsAlert(42, sentByPeer: true))])
    }

    @Test func nothingOpensBeforeTheHandshakeIsDone() throws {
        let pair = try QUICHarness()
        #expect(throws: StreamOpenError.notEstablished) { try pair.dialer.connection.openStream(now: pair.now) }
    }

    @Test func silentServerIsGivenUp() throws {
        let pair = try QUICHarness()
        pair.isLost = { _ in true }
        pair.advance(by: .seconds(11))
        #expect(pair.dialer.closeReasons == [.handshakeTimedOut(.securing, after: .seconds(10))])
    }

    @Test func handshakeSurvivesLoss() throws {
        for lost in 0..<8 {
            let pair = try QUICHarness()
            var count = 0
            pair.isLost = { _ in
                count += 1
                return count == lost + 1
            }
            for _ in 0..<100 where pair.accepted.isEmpty || pair.listener.remote == nil {
                pair.settle()
                pair.advance(by: .milliseconds(100))
            }
            #expect(pair.dialer.remote != nil, "datagram \(lost)")
            #expect(pair.dialer.closeReasons.isEmpty, "datagram \(lost)")
        }
    }

    // MARK: Data

    @Test func everythingArrivesThoughOneDatagramInTenIsLost() throws {
        let pair = try QUICHarness.established()
        var random = RandomSource(seed: 11)
        pair.isLost = { _ in Int.random(in: 0..<10, using: &random) == 0 }
        let id = try pair.dialer.connection.openStream(now: pair.now)
        let bytes = MuxerCompliance.pattern(2_000_000, seed: 12)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.dialer.connection.finish(id)
        for _ in 0..<2_000 where !pair.listener[id].isFinished {
            pair.settle()
            pair.advance(by: .milliseconds(20))
        }
        #expect(pair.listener[id].received == bytes)
        #expect(pair.listener[id].isFinished)
    }

    @Test func windowGrowsWithUseAndStaysInItsBudget() throws {
        for (limit, isLarge) in [(64 << 20, true), (0, false)] {
            let budget = WindowBudget(limit: limit)
            let pair = try QUICHarness.established(budget: budget)
            pair.listener.keepsBytes = false
            let id = try pair.dialer.connection.openStream(now: pair.now)
            pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(8 << 20, seed: 1)), on: id)
            pair.settle()
            #expect(pair.listener[id].receivedCount == 8 << 20)
            #expect((budget.inUse > 0) == isLarge)
            pair.listener.connection.reset(id)
            #expect(budget.inUse == 0)
        }
    }

    @Test func connectionWindowComesBackWhenUnreadStreamsAreReset() throws {
        var small = ConnectionConfiguration()
        small.maximumConnectionWindow = 512 * 1024
        let pair = try QUICHarness.established(serverConnection: small)
        pair.listener.consumesAtOnce = false
        for round in 0..<20 {
            let id = try pair.dialer.connection.openStream(now: pair.now)
            pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(300_000, seed: 2)), on: id)
            pair.settle()
            #expect(pair.listener[id].receivedCount > 200_000, "round \(round)")
            pair.listener.connection.reset(id)
            pair.settle()
            #expect(pair.dialer[id].isReset)
        }
    }

    @Test func streamsBeyondTheLimitAreNotOpened() throws {
        var few = ConnectionConfiguration()
        few.maximumStreams = 3
        let pair = try QUICHarness.established(serverConnection: few)
        let ids = try (0..<3).map { _ in try pair.dialer.connection.openStream(now: pair.now) }
        #expect(throws: StreamOpenError.tooManyUnacknowledged(limit: 3)) {
            try pair.dialer.connection.openStream(now: pair.now)
        }
        pair.dialer.connection.finish(ids[0])
        pair.settle()
        pair.listener.connection.finish(ids[0])
        pair.settle()
        _ = try pair.dialer.connection.openStream(now: pair.now)
    }

    @Test func peerThatHasAnsweredAndReadsNoMoreHasNotBrokenTheStream() throws {
        // As Go nodes do when they close a stream: finish, and ask for no more.
        let pair = try QUICHarness.established()
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send([1, 2, 3], on: id)
        pair.settle()
        pair.listener.connection.send([4, 5], on: id)
        pair.listener.connection.finish(id)
        pair.settle()
        try #require(pair.listener.connection as? QUICConnection).stopReading(id)
        pair.settle()
        #expect(pair.dialer[id].received == [4, 5])
        #expect(pair.dialer[id].isFinished && pair.dialer[id].isClosed && !pair.dialer[id].isReset)
        #expect(pair.dialer.connection.streamCount == 0)
        #expect(pair.dialer.misplaced.isEmpty)
    }

    @Test func peerThatReadsNoMoreBreaksAStreamThatIsBeingSent() throws {
        let pair = try QUICHarness.established()
        pair.listener.consumesAtOnce = false
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(2_000_000, seed: 5)), on: id)
        pair.settle()
        pair.listener.connection.finish(id)
        pair.settle()
        try #require(pair.listener.connection as? QUICConnection).stopReading(id)
        pair.settle()
        #expect(pair.dialer[id].isFinished && pair.dialer[id].isReset)
        #expect(pair.dialer.connection.streamCount == 0)
    }

    // MARK: Liveness

    @Test func quietConnectionStays() throws {
        let pair = try QUICHarness.established()
        pair.advance(by: .seconds(60))
        #expect(pair.dialer.closeReasons.isEmpty)
        #expect(pair.listener.closeReasons.isEmpty)
        #expect(pair.dialer.roundTrips.count > 10)
    }

    @Test func silentPeerIsFound() throws {
        let pair = try QUICHarness.established()
        pair.isLost = { _ in true }
        pair.advance(by: .seconds(3))
        #expect(pair.dialer.closeReasons == [.unresponsive(.milliseconds(2500))])
        #expect(pair.listener.closeReasons == [.unresponsive(.milliseconds(2500))])
    }

    @Test func aPeerBehindALongPathIsNotTakenForDead() throws {
        var configuration = ConnectionConfiguration()
        configuration.keepAliveInterval = .milliseconds(500)
        configuration.deadAfter = .seconds(1)
        let pair = try QUICHarness(clientConnection: configuration, serverConnection: configuration)
        // An answer to a keep-alive takes longer than the peer may be silent by the configuration.
        pair.delay = .milliseconds(600)
        pair.run(for: .seconds(20)) { false }
        #expect(pair.dialer.remote != nil)
        #expect(pair.dialer.closeReasons.isEmpty)
        #expect(pair.listener.closeReasons.isEmpty)
        pair.isLost = { _ in true }
        pair.run(for: .seconds(20)) { false }
        #expect(!pair.dialer.closeReasons.isEmpty)
        #expect(!pair.listener.closeReasons.isEmpty)
    }

    @Test func aLoopThatStoodStillReadsFirstWhatCame() throws {
        let pair = try QUICHarness.established()
        pair.isLost = { _ in true }
        let dialer = pair.dialer.connection
        let late = pair.now + .seconds(10)
        dialer.handleTimeout(now: late)
        pair.dialer.drain(now: late)
        #expect(pair.dialer.closeReasons.isEmpty)
        let deadline = try #require(dialer.deadline)
        #expect(deadline <= late + .milliseconds(250))
        dialer.handleTimeout(now: late + .milliseconds(250))
        pair.dialer.drain(now: late + .milliseconds(250))
        guard case .unresponsive(let silence) = pair.dialer.closeReasons.first else {
            Issue.record("still open, or closed otherwise: \(pair.dialer.closeReasons)")
            return
        }
        #expect(silence >= .milliseconds(10_250))
    }

    @Test func restingConnectionIsAskedSeldomAndAnswersWhenItIsDoubted() throws {
        let pair = try QUICHarness.established()
        for end in [pair.dialer, pair.listener] {
            end.connection.setKeepAlive(KeepAlive(interval: .seconds(8), deadAfter: .seconds(20)), now: pair.now)
        }
        pair.advance(by: .seconds(4))
        let sent = pair.sentCount
        pair.advance(by: .seconds(60))
        #expect((1...60).contains(pair.sentCount - sent))
        let probed = pair.sentCount
        pair.dialer.connection.probe(now: pair.now)
        pair.settle()
        #expect((2...6).contains(pair.sentCount - probed), "a PING and its answer")
        pair.advance(by: .seconds(3))
        #expect(pair.dialer.closeReasons.isEmpty && pair.listener.closeReasons.isEmpty)
        pair.isLost = { _ in true }
        pair.dialer.connection.probe(now: pair.now)
        pair.settle()
        pair.advance(by: .seconds(2))
        #expect(pair.dialer.closeReasons.count == 1)
        #expect(pair.listener.closeReasons.isEmpty)
    }

    @Test(arguments: [true, false]) func connectionThatRestedIsAskedBeforeItIsGivenUp(answers: Bool) throws {
        let pair = try QUICHarness.established()
        for end in [pair.dialer, pair.listener] {
            end.connection.setKeepAlive(KeepAlive(interval: .seconds(30), deadAfter: .seconds(60)), now: pair.now)
        }
        pair.advance(by: .seconds(12))
        pair.isLost = { _ in !answers }
        pair.dialer.connection.setKeepAlive(nil, now: pair.now)
        pair.settle()
        pair.advance(by: .milliseconds(200))
        #expect(pair.dialer.closeReasons.isEmpty, "nobody had asked it")
        pair.advance(by: .seconds(10))
        #expect(pair.dialer.closeReasons.isEmpty == answers)
    }

    @Test func farewellIsHeard() throws {
        let pair = try QUICHarness.established()
        pair.dialer.connection.close(now: pair.now)
        pair.settle()
        #expect(pair.dialer.closeReasons == [.closedLocally])
        #expect(pair.listener.closeReasons == [.goneAway(.normal)])
        #expect(pair.client.endpoint.connectionCount == 0)
        #expect(pair.server.endpoint.connectionCount == 0)
    }

    @Test func closeDoesNotWaitForeverForAPeerThatTakesNothing() throws {
        let pair = try QUICHarness.established()
        pair.listener.consumesAtOnce = false
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(2_000_000, seed: 3)), on: id)
        pair.settle()
        pair.dialer.connection.close(now: pair.now)
        pair.settle()
        #expect(pair.dialer.closeReasons.isEmpty)
        pair.advance(by: .milliseconds(1100))
        #expect(pair.dialer.closeReasons == [.closedLocally])
    }

    // MARK: Paths

    @Test func clientMayMove() throws {
        let pair = try QUICHarness.established()
        let moved = QUICAddress(.v4(IPv4Address(127, 0, 0, 9)), port: 777)
        let old = pair.client.address
        pair.change = { datagram in
            if datagram.from == old {
                datagram = .init(bytes: datagram.bytes, from: moved, to: datagram.to, arrival: datagram.arrival)
            }
        }
        let id = try pair.dialer.connection.openStream(now: pair.now)
        let bytes = MuxerCompliance.pattern(500_000, seed: 4)
        pair.dialer.connection.send(Bytes(bytes), on: id)
        pair.settle()
        pair.advance(by: .seconds(1))
        #expect(pair.listener[id].received == bytes)
        #expect((pair.listener.connection as? QUICConnection)?.remoteAddress == moved)
    }

    @Test func aCopiedDatagramFromElsewhereMovesNothing() throws {
        let pair = try QUICHarness.established()
        let elsewhere = QUICAddress(.v4(IPv4Address(127, 0, 0, 66)), port: 666)
        var copied = 0
        var answered = 0
        pair.isLost = { [unowned pair] datagram in
            if datagram.to == elsewhere {
                answered += datagram.bytes.count
                return true
            }
            if datagram.from == pair.client.address, copied == 0 {
                copied = datagram.bytes.count
                // It is there before the original.
                pair.put(datagram.bytes, from: elsewhere, to: datagram.to)
            }
            return false
        }
        let id = try pair.dialer.connection.openStream(now: pair.now)
        let bytes = MuxerCompliance.pattern(500_000, seed: 6)
        // One packet alone, so that the server acts on the copy before it sees another.
        pair.dialer.connection.send(Bytes(Array(bytes.prefix(1000))), on: id)
        pair.settle()
        pair.dialer.connection.send(Bytes(Array(bytes.dropFirst(1000))), on: id)
        pair.settle()
        pair.advance(by: .seconds(2))
        #expect(pair.listener[id].received == bytes)
        #expect((pair.listener.connection as? QUICConnection)?.remoteAddress == pair.client.address)
        // It was asked whether it is there, with no more than three times what came from it (RFC 9000, 8).
        #expect(answered > 0 && answered <= 3 * copied)
    }
}
