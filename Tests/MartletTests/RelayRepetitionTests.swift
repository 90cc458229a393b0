import Martlet
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm
import Testing

/// A dial through relays, one of which fails.
@Suite struct RelayRepetitionTests {
    /// A node that is reached through two relays only, and one that dials it.
    private struct Scene {
        let relays: [ScriptedRelay]
        let a: Node
        let b: Node

        init() async throws {
            let relays = [try await ScriptedRelay(), try await ScriptedRelay()]
            self.relays = relays
            b = try await NodePair.node {
                $0.listenAddresses = []
                $0.relays = relays.map(\.address)
            }
            a = try await NodePair.node()
            while try await Set(b.announcedAddresses().compactMap { try? CircuitAddress($0).relay }).count < 2 {
                try await Task.sleep(for: .milliseconds(5))
            }
        }

        func connect(through relays: ArraySlice<ScriptedRelay>) async throws {
            try await a.connect(to: b.peerID, at: relays.map { try $0.circuit(to: b.peerID) })
        }

        func stop() async {
            for node in [a, b] + relays.map(\.node) { await node.stop() }
        }
    }

    private static let failures: [ScriptedRelay.Behaviour] = [
        .resetsBeforeAnswer, .resetsAfterAnswer, .answers(HopMessage.status(.connectionFailed).encoded),
    ]

    @Test(arguments: 0..<3) func theRelayIsAskedOnceMore(_ failure: Int) async throws {
        let scene = try await Scene()
        scene.relays[0].behaveFirst(Self.failures[failure])
        try await scene.connect(through: scene.relays[..<1])
        #expect(scene.relays[0].connects == 2)
        #expect(try await scene.a.status(of: scene.b.peerID)?.path == .relayed)
        await scene.stop()
    }

    @Test(arguments: 0..<3) func anotherRelayIsAskedInstead(_ failure: Int) async throws {
        let scene = try await Scene()
        scene.relays[0].behave(Self.failures[failure])
        try await scene.connect(through: scene.relays[...])
        // On a busy machine the other one is asked before the first has answered.
        #expect(scene.relays[0].connects <= 1 && scene.relays[1].connects == 1)
        let status = try #require(try await scene.a.status(of: scene.b.peerID))
        #expect(try CircuitAddress(status.address).relay == scene.relays[1].node.peerID)
        await scene.stop()
    }

    @Test func aRelayThatFailsTwiceIsNamedWithWhatItSaidLast() async throws {
        let scene = try await Scene()
        scene.relays[0].behaveFirst(.resetsBeforeAnswer)
        scene.relays[0].behave(.answers(HopMessage.status(.noReservation).encoded))
        let error = await #expect(throws: MartletError.self) { try await scene.connect(through: scene.relays[..<1]) }
        guard case .allFailed(let failures)? = error?.cause as? DialError else {
            Issue.record("not what was expected: \(error?.message ?? "no error")")
            return
        }
        #expect(failures.map(\.relay) == [scene.relays[0].node.peerID])
        #expect(failures.map(\.reason) == ["the relay answered NO_RESERVATION"])
        #expect(failures.map(\.tries) == [2])
        await scene.stop()
    }

    @Test(arguments: [CircuitStatus.noReservation, .permissionDenied, .resourceLimitExceeded])
    func whatTheRelayWillNotDoItIsNotAskedAgain(_ status: CircuitStatus) async throws {
        let scene = try await Scene()
        scene.relays[0].behave(.answers(HopMessage.status(status).encoded))
        let error = await #expect(throws: MartletError.self) { try await scene.connect(through: scene.relays[..<1]) }
        #expect(error?.message.contains("the relay answered \(status)") == true)
        #expect(scene.relays[0].connects == 1)
        // Another one may.
        try await scene.connect(through: scene.relays[...])
        #expect(scene.relays[0].connects <= 2 && scene.relays[1].connects == 1)
        await scene.stop()
    }

    @Test func onlyWhatMayPassIsWorthASecondTry() {
        #expect(CircuitFault.refused(.connectionFailed).mayPass)
        #expect(CircuitFault.streamClosed(.resetByPeer).mayPass)
        #expect(CircuitFault.streamClosed(.connectionClosed("gone")).mayPass)
        #expect(CircuitFault.noStream(.closing).mayPass)
        let firm: [CircuitStatus] = [
            .reservationRefused, .resourceLimitExceeded, .permissionDenied, .noReservation, .malformedMessage,
            .unexpectedMessage, CircuitStatus(rawValue: 777),
        ]
        for status in firm { #expect(!CircuitFault.refused(status).mayPass) }
        #expect(!CircuitFault.streamClosed(.negotiationTimedOut).mayPass)
        #expect(!CircuitFault.streamClosed(.protocolNotSupported([])).mayPass)
        #expect(!CircuitFault.noAnswer.mayPass)
    }
}
