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

    @Test func restingConnectionIsAskedAsSeldomAsItIsToldTo() throws {
        let pair = makeEstablishedPair()
        pair.dialer.connection.setKeepAlive(KeepAlive(interval: .seconds(3), deadAfter: .seconds(10)), now: pair.now)
        pair.listener.connection.setKeepAlive(KeepAlive(interval: .seconds(8), deadAfter: .seconds(15)), now: pair.now)
        pair.stepTime = .milliseconds(5)
        pair.advanceThroughDeadlines(by: .seconds(2))
        let before = (pair.dialer.roundTrips.count, pair.listener.roundTrips.count)
        pair.advanceThroughDeadlines(by: .seconds(60))
        #expect(pair.dialer.closeReasons.isEmpty && pair.listener.closeReasons.isEmpty)
        #expect((18...21).contains(pair.dialer.roundTrips.count - before.0))
        #expect(pair.listener.roundTrips.count - before.1 <= 2, "who is asked need not ask")
        // And as before when it is told so.
        pair.dialer.connection.setKeepAlive(nil, now: pair.now)
        let asked = pair.dialer.roundTrips.count
        pair.advanceThroughDeadlines(by: .seconds(30))
        #expect(pair.dialer.roundTrips.count - asked >= 25)
    }

    @Test func peerThatIsDoubtedHasToAnswerAtOnce() throws {
        let bench = try YamuxBench.started(roundTrip: .milliseconds(20))
        bench.session.setKeepAlive(KeepAlive(interval: .seconds(60), deadAfter: .seconds(300)), now: bench.now)
        for answers in [true, false] {
            bench.now = bench.now + .seconds(5)
            bench.session.probe(now: bench.now)
            let probed = bench.now
            let pings = bench.sent()
            #expect(pings.map(\.header.kind) == [.ping])
            // Doubting it again changes nothing.
            bench.session.probe(now: bench.now + .seconds(1))
            #expect(bench.session.deadline == probed + .milliseconds(1500))
            if answers {
                try bench.receive(.ping, .ack, stream: 0, length: pings[0].header.length)
                bench.session.handleTimeout(now: probed + .seconds(20))
                #expect(bench.session.outcome == nil)
            } else {
                bench.session.handleTimeout(now: probed + .milliseconds(1499))
                #expect(bench.session.outcome == nil)
                bench.session.handleTimeout(now: probed + .milliseconds(1500))
                #expect(bench.session.outcome == .unresponsive(.milliseconds(6500)))
            }
        }
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
