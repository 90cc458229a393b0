import MartletCore
import MartletReachability
import MartletRuntime
import MartletSwarm
import Testing

@testable import Martlet

/// What a caller hears when the peer asked for does not take the circuit: always an answer, never a reset.
@Suite struct RelayStopFaultTests {
    /// What the peer does once it was told who calls.
    enum Fault: CaseIterable {
        case resets
        case ends
        case endsWithinItsMessage
        case answersRubbish
        case answersTooLong
        case answersWithARequest
        case refusesForReasonsOfItsOwn
        case mayNotTakeIt
        case hasNoRoom
        case saysNothing
        case disconnects
        case stops

        var status: CircuitStatus {
            switch self {
            case .mayNotTakeIt: .permissionDenied
            case .hasNoRoom: .resourceLimitExceeded
            default: .connectionFailed
            }
        }
    }

    @Test(arguments: Fault.allCases, ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"])
    func theCallerIsAnswered(_ fault: Fault, _ place: String) async throws {
        let isSilent = fault == .saysNothing
        let trio = try await RelayTrio(at: place) { if isSilent { $0.answerTimeout = .milliseconds(300) } }
        let (target, relay) = (trio.target, trio.relay.peerID)
        let done = AsyncStream.makeStream(of: Void.self)
        trio.onAnnouncement { talk in
            switch fault {
            case .resets: talk.stream.reset()
            case .ends: try await talk.stream.finish()
            case .endsWithinItsMessage:
                try await talk.send([20, 8])
                try await talk.stream.finish()
            case .answersRubbish: try await talk.send([2, 0xFF, 0xFF])
            case .answersTooLong: try await talk.send(Varint.encode(5000))
            case .answersWithARequest:
                try await talk.send(StopMessage.connect(from: talk.stream.peer).encoded)
            case .refusesForReasonsOfItsOwn: try await talk.send(StopMessage.status(.noReservation).encoded)
            case .mayNotTakeIt: try await talk.send(StopMessage.status(.permissionDenied).encoded)
            case .hasNoRoom: try await talk.send(StopMessage.status(.resourceLimitExceeded).encoded)
            case .saysNothing: break
            case .disconnects: try await target.disconnect(from: relay)
            case .stops: Task { await target.stop() }
            }
            // The stream ends with the handler, which is to add nothing of its own.
            for await _ in done.stream {}
        }
        _ = try await trio.reserve()
        let connect = HopMessage.connect(to: target.peerID).encoded
        #expect(try await trio.refusal(trio.source, connect) == fault.status)
        try await trio.waitUntil { $0.circuits == 0 && $0.refusals == 1 }
        done.continuation.finish()
        await trio.stop()
    }

    @Test func aPeerThatDoesNotServeTheProtocolIsNotReached() async throws {
        let trio = try await RelayTrio()
        trio.serveEcho()
        _ = try await trio.reserve()
        trio.target.stopHandling(Circuit.stopProtocolID)
        let connect = HopMessage.connect(to: trio.target.peerID).encoded
        #expect(try await trio.refusal(trio.source, connect) == .connectionFailed)
        await trio.stop()
    }

    /// A peer that answers and is gone before its caller was told: nothing may be promised any more.
    @Test func anEndWhoseOtherEndIsOverIsCutOff() async throws {
        let runtime = try EventLoopGroup(loopCount: 1)
        let loop = runtime.next()
        await withCheckedContinuation { done in
            loop.execute {
                let terms = CircuitTerms(
                    limit: nil, rate: nil, shared: nil, queueLimit: 1, window: 1, halfClosedTimeout: .seconds(1),
                    statistics: RelayStatistics())
                let (source, target) = CircuitEnd.pair(loop, loop, terms: terms, now: loop.now) {}
                #expect(!source.isCutOff)
                target.close(isOrderly: false)
                #expect(source.isCutOff)
                done.resume()
            }
        }
        await runtime.shutdown()
    }
}
