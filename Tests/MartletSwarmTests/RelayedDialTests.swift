import MartletConnection
import MartletCore
import MartletIdentity
import Testing

@testable import MartletSwarm

private func key(_ seed: UInt8) -> KeyPair { KeyPair(seed: [UInt8](repeating: seed, count: 32)) }

private let relay = key(9).peerID
private let target = key(2)
private let hidden = "/ip4/198.51.100.7/tcp/4001"

private func circuit(_ transport: String, through relay: PeerID = relay) throws -> Multiaddr {
    try Multiaddr("\(transport)/p2p/\(relay)/p2p-circuit/p2p/\(target.peerID)")
}

extension [SwarmOrder] {
    fileprivate var relayedDials: [(id: ConnectionID, relay: PeerID, addresses: [Multiaddr])] {
        compactMap { order in
            if case .dialThroughRelay(let id, let relay, let addresses, target.peerID) = order {
                (id, relay, addresses)
            } else {
                nil
            }
        }
    }
}

@Suite struct RelayedDialTests {
    /// A dial whose direct address hangs, so that the relay is tried, too: both attempts are under way.
    private func race(
        in harness: inout SwarmHarness
    ) throws -> (request: RequestID, direct: ConnectionID, relayed: ConnectionID) {
        let request = harness.connect(
            to: target.peerID, at: [try Multiaddr(hidden), try circuit("/ip4/192.0.2.1/tcp/1")])
        let direct = try #require(harness.orders().dials.first)
        harness.now = harness.now + .milliseconds(250)
        harness.swarm.handleTimeout(now: harness.now)
        let relayed = try #require(harness.orders().relayedDials.first)
        return (request, direct.id, relayed.id)
    }

    @Test func addressesOfOneRelayAreOneAttempt() throws {
        var harness = SwarmHarness()
        _ = harness.connect(
            to: target.peerID,
            at: [try circuit("/ip4/192.0.2.1/tcp/1"), try circuit("/ip4/192.0.2.1/udp/1/quic-v1")])
        let dials = harness.orders().relayedDials
        #expect(dials.map(\.relay) == [relay])
        #expect(dials.first?.addresses.count == 2)
    }

    @Test func theRelayWinsWhileTheDirectAddressHangsAndTheDirectOneStillCounts() throws {
        var harness = SwarmHarness()
        let (request, direct, relayed) = try race(in: &harness)
        harness.establish(relayed, as: target)
        var orders = harness.orders()
        #expect(try orders.completions[request]?.get().connection == relayed)
        #expect(orders.closed.isEmpty)
        #expect(harness.swarm.path(of: relayed) == .relayed)
        // The direct one comes late, and is the one to use from then on.
        harness.establish(direct, as: target)
        orders = harness.orders()
        #expect(orders.pathChanges.map(\.connection) == [direct])
        #expect(orders.retired == [relayed])
        #expect(harness.swarm.connection(to: target.peerID) == direct)
        #expect(harness.swarm.deadline == nil)
    }

    @Test func aRelayedConnectionBesideADirectOneChangesNothing() throws {
        var harness = SwarmHarness()
        let (_, direct, relayed) = try race(in: &harness)
        harness.establish(direct, as: target)
        #expect(harness.orders().closed == [relayed])
    }

    @Test func whatTheDirectAddressDoesLaterIsNobodysFailure() throws {
        var harness = SwarmHarness()
        let (_, direct, relayed) = try race(in: &harness)
        harness.establish(relayed, as: target)
        _ = harness.orders()
        harness.now = harness.now + .seconds(10)
        harness.swarm.handleTimeout(now: harness.now)
        #expect(harness.orders().closed == [direct])
        harness.swarm.dialFailed(direct, reason: "no answer", now: harness.now)
        #expect(harness.orders().completions.isEmpty)
        #expect(harness.swarm.deadline == nil)
    }

    @Test func whoeverWantsADirectConnectionIsNotGivenARelayedOne() throws {
        var harness = SwarmHarness()
        _ = harness.connect(to: target.peerID, at: [try circuit("/ip4/192.0.2.1/tcp/1")])
        let relayed = try #require(harness.orders().relayedDials.first)
        harness.establish(relayed.id, as: target)
        _ = harness.orders()
        let request = RequestID(rawValue: 77)
        harness.swarm.connect(
            request, to: target.peerID, at: [try Multiaddr(hidden)], directly: true, now: harness.now)
        let direct = try #require(harness.orders().dials.first)
        harness.swarm.dialFailed(direct.id, reason: "refused", now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[request]?.get() }
        // A relay's address alone is none.
        let second = RequestID(rawValue: 78)
        harness.swarm.connect(
            second, to: key(3).peerID, at: [try circuit("/ip4/192.0.2.1/tcp/1")], directly: true, now: harness.now)
        #expect(throws: DialError.noAddresses(key(3).peerID)) { try harness.orders().completions[second]?.get() }
    }

    @Test func aRelayedConnectionLostWhileDirectOnesAreTriedIsDialedAgain() throws {
        var harness = SwarmHarness()
        let addresses = [try Multiaddr(hidden), try circuit("/ip4/192.0.2.1/tcp/1")]
        _ = harness.connect(to: target.peerID, at: addresses)
        _ = harness.orders()
        harness.now = harness.now + .milliseconds(250)
        harness.swarm.handleTimeout(now: harness.now)
        let relayed = try #require(harness.orders().relayedDials.first)
        harness.establish(relayed.id, as: target)
        harness.swarm.connection(relayed.id, reports: .closed(.transportFailed("reset")), now: harness.now)
        _ = harness.orders()
        _ = harness.connect(to: target.peerID, at: addresses)
        harness.now = harness.now + .milliseconds(250)
        harness.swarm.handleTimeout(now: harness.now)
        #expect(harness.orders().relayedDials.count == 1)
    }

    @Test func circuitsThatCannotBeUsedAreNamedInTheError() throws {
        var harness = SwarmHarness()
        let bad = [
            try Multiaddr("/p2p-circuit/p2p/\(target.peerID)"),
            try circuit("/ip4/192.0.2.1/tcp/1/p2p/\(key(5).peerID)/p2p-circuit"),
            try circuit("/ip4/192.0.2.1/tcp/1", through: target.peerID),
            try circuit("/ip4/192.0.2.1/tcp/1", through: harness.swarm.local.peerID),
        ]
        let request = harness.connect(to: target.peerID, at: bad)
        guard case .failure(.allFailed(let failures)) = harness.orders().completions[request] else {
            Issue.record("the dial did not fail")
            return
        }
        #expect(failures.map(\.address) == bad)
    }

    @Test func connectionsThroughOneRelayAreLimited() throws {
        var limits = SwarmLimits()
        limits.maximumInboundPerAddress = 3
        let harness = SwarmHarness(limits: limits)
        let address = CircuitAddress.remoteAddress(through: relay)
        for _ in 0..<3 { _ = try harness.swarm.accepted(from: address, now: harness.now) }
        #expect(throws: RefusedConnection.self) { try harness.swarm.accepted(from: address, now: harness.now) }
    }

    // MARK: Repetition

    /// A dial through one relay, under way.
    private func dial(in harness: inout SwarmHarness) throws -> (request: RequestID, relayed: ConnectionID) {
        let request = harness.connect(to: target.peerID, at: [try circuit("/ip4/192.0.2.1/tcp/1")])
        return (request, try #require(harness.orders().relayedDials.first).id)
    }

    private func expectRepetition(in harness: inout SwarmHarness) throws -> ConnectionID {
        #expect(harness.orders().isEmpty)
        let deadline = try #require(harness.swarm.deadline)
        let pause = deadline - harness.now
        #expect(pause >= DialSettings.relayRepeatDelay * 0.75 && pause <= DialSettings.relayRepeatDelay)
        harness.now = deadline
        harness.swarm.handleTimeout(now: harness.now)
        return try #require(harness.orders().relayedDials.first).id
    }

    @Test func aFailureThatMayPassIsRepeatedOnceAndTheLastReasonIsTold() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.swarm.dialFailed(first, reason: "reset", mayPass: true, now: harness.now)
        let second = try expectRepetition(in: &harness)
        #expect(second != first)
        harness.swarm.dialFailed(second, reason: "CONNECTION_FAILED", mayPass: true, now: harness.now)
        guard case .failure(.allFailed(let failures)) = harness.orders().completions[request] else {
            Issue.record("the dial did not fail")
            return
        }
        #expect(failures.map(\.relay) == [relay])
        #expect(failures.map(\.reason) == ["CONNECTION_FAILED"])
        #expect(failures.map(\.tries) == [2])
        #expect(DialError.allFailed(failures).description.contains("CONNECTION_FAILED (tried 2 times)"))
        #expect(harness.swarm.deadline == nil)
    }

    @Test func aRepetitionThatConnectsAnswersTheDial() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.swarm.dialFailed(first, reason: "reset", mayPass: true, now: harness.now)
        let second = try expectRepetition(in: &harness)
        harness.establish(second, as: target)
        #expect(try harness.orders().completions[request]?.get().connection == second)
        #expect(harness.swarm.deadline == nil)
    }

    @Test func aConnectionThatTheRelayLostInItsHandshakeIsDialedAgain() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.swarm.connection(first, reports: .closed(.transportFailed("reset")), now: harness.now)
        let second = try expectRepetition(in: &harness)
        let wrong = HandshakeError.wrongPeer(expected: target.peerID, actual: relay)
        harness.swarm.connection(second, reports: .closed(.handshakeFailed(wrong)), now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[request]?.get() }
    }

    @Test func whatWillNotPassIsNotRepeated() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.swarm.dialFailed(first, reason: "NO_RESERVATION", now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[request]?.get() }
        let (again, second) = try dial(in: &harness)
        let wrong = HandshakeError.wrongPeer(expected: target.peerID, actual: relay)
        harness.swarm.connection(second, reports: .closed(.handshakeFailed(wrong)), now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[again]?.get() }
    }

    @Test func nothingIsRepeatedForWhichNoTimeIsLeft() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.now = harness.now + (harness.swarm.dialSettings.timeout - .milliseconds(500))
        harness.swarm.dialFailed(first, reason: "reset", mayPass: true, now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[request]?.get() }
    }

    @Test func anAttemptThatTheDialGaveUpIsNotRepeated() throws {
        var harness = SwarmHarness()
        let (request, first) = try dial(in: &harness)
        harness.now = harness.now + .seconds(10)
        harness.swarm.handleTimeout(now: harness.now)
        #expect(harness.orders().closed == [first])
        harness.swarm.dialFailed(first, reason: "reset", mayPass: true, now: harness.now)
        #expect(throws: DialError.self) { try harness.orders().completions[request]?.get() }
    }
}
