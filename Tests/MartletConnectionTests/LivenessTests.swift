import MartletCore
import MartletTestSupport
import Testing

@testable @_spi(Fuzzing) import MartletConnection

/// Pings, round trips and the death of a silent peer.
@Suite struct LivenessTests {
    @Test func silentPeerIsPingedThenDeclaredDead() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        let heard = bench.now
        #expect(bench.session.deadline == heard + .milliseconds(980), "a second after the last thing sent")
        bench.now = heard + .seconds(1)
        bench.session.handleTimeout(now: bench.now)
        #expect(bench.sent().map(\.header.kind) == [.ping])
        #expect(bench.session.deadline == heard + .milliseconds(2500))
        bench.session.handleTimeout(now: heard + .milliseconds(2499))
        #expect(bench.session.outcome == nil)
        bench.session.handleTimeout(now: heard + .milliseconds(2500))
        #expect(bench.session.outcome == .unresponsive(.milliseconds(2500)))
    }

    @Test func deathDoesNotNeedThePingToHaveBeenSent() throws {
        // A dead peer takes nothing, so its ping never leaves.
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        let heard = bench.now
        bench.session.handleTimeout(now: heard + .seconds(1))
        bench.session.handleTimeout(now: heard + .milliseconds(2500))
        #expect(bench.session.outcome == .unresponsive(.milliseconds(2500)))
    }

    @Test func anyByteIsASignOfLife() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        let heard = bench.now
        bench.session.handleTimeout(now: heard + .seconds(1))
        _ = bench.sent()
        // Part of a header, not even the answer.
        bench.now = heard + .seconds(2)
        try bench.receive([0, 0])
        bench.session.handleTimeout(now: heard + .milliseconds(2500))
        #expect(bench.session.outcome == nil)
        #expect(bench.session.deadline == heard + .milliseconds(4500))
    }

    @Test func ownLoopStandingStillDoesNotKillThePeer() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        let late = bench.now + .seconds(60)
        // Called a minute late: first the ping, and then time for the answer.
        bench.session.handleTimeout(now: late)
        #expect(bench.session.outcome == nil)
        #expect(bench.sent().map(\.header.kind) == [.ping])
        bench.session.handleTimeout(now: late + .seconds(60))
        #expect(bench.session.outcome == nil, "what came meanwhile is not read yet")
        bench.session.handleTimeout(now: late + .seconds(60) + .milliseconds(250))
        #expect(bench.session.outcome != nil)
    }

    @Test func receiverOfALongStreamSpeaksUpNowAndThen() throws {
        // Its own keep-alive would never fire, and the sender's pings may wait behind the data.
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        try bench.receiveData([1], .syn, stream: 1)
        for _ in 0..<20 {
            bench.now = bench.now + .milliseconds(100)
            try bench.receiveData([1], stream: 1)
        }
        bench.session.handleTimeout(now: bench.now)
        #expect(bench.sent().map(\.header.kind) == [.ping])
    }

    @Test func keepAliveCanBeTurnedOff() throws {
        let bench = try YamuxBench.started {
            $0.keepAliveInterval = nil
            $0.deadAfter = nil
        }
        #expect(bench.session.deadline == nil)
        bench.session.handleTimeout(now: bench.now + .seconds(100_000))
        #expect(bench.session.outcome == nil)
        #expect(bench.sent() == [])
    }

    @Test func idlePairLivesAndKnowsItsRoundTrip() {
        let pair = makeEstablishedPair()
        pair.stepTime = .milliseconds(5)
        pair.advanceThroughDeadlines(by: .seconds(60))
        #expect(pair.dialer.closeReasons.isEmpty && pair.listener.closeReasons.isEmpty)
        #expect(pair.dialer.roundTrips.count + pair.listener.roundTrips.count >= 50)
        #expect(!pair.dialer.roundTrips.isEmpty && !pair.listener.roundTrips.isEmpty)
        #expect(pair.dialer.roundTrips.count + pair.listener.roundTrips.count <= 150)
    }

    @Test func restingConnectionHoldsNoCipherContextNorBlock() throws {
        let pair = makeEstablishedPair()
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send(Bytes([UInt8](repeating: 1, count: 300_000)), on: id)
        pair.settle()
        let connection = try #require(pair.listener.connection as? SecureConnection)
        #expect(connection.holdsContexts)
        pair.advanceThroughDeadlines(by: .seconds(3))
        #expect(!connection.holdsContexts)
        // And goes on as before.
        pair.dialer.connection.send(Bytes([UInt8](repeating: 2, count: 300_000)), on: id)
        pair.settle()
        #expect(pair.listener[id].receivedCount == 600_000)
    }
}
