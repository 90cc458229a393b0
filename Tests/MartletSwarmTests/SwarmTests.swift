import MartletConnection
import MartletCore
import MartletIdentity
import Testing

@testable import MartletSwarm

/// A swarm alone: the test plays the driver and the connections.
struct SwarmHarness {
    let swarm: Swarm
    var now = Instant(nanoseconds: 0)
    private var lastRequest: UInt64 = 0

    init(seed: UInt64 = 1, limits: SwarmLimits = SwarmLimits(), network: String? = nil) {
        var random = RandomSource(seed: seed)
        let local = LocalPeer(
            identity: KeyPair(random: &random), network: network ?? "test", agentVersion: "test",
            protocols: ProtocolTable(),
            sequence: 1)
        swarm = Swarm(
            local: local, limits: limits, isNetworkExclusive: network != nil, random: random.split(), now: now,
            wallTime: WallTime(nanosecondsSince1970: 0))
    }

    mutating func connect(to peer: PeerID?, at addresses: [Multiaddr]) -> RequestID {
        lastRequest += 1
        swarm.connect(RequestID(rawValue: lastRequest), to: peer, at: addresses, now: now)
        return RequestID(rawValue: lastRequest)
    }

    func orders() -> [SwarmOrder] {
        var orders: [SwarmOrder] = []
        while let order = swarm.nextOrder() { orders.append(order) }
        return orders
    }

    func establish(_ id: ConnectionID, as key: KeyPair) {
        let identity = RemoteIdentity(
            peerID: key.peerID, publicKey: key.publicKey, muxer: "/yamux/1.0.0", earlyMuxer: true)
        swarm.connection(id, reports: .established(identity), now: now)
    }

    /// A connection that came in from `key` and is established.
    func inbound(_ key: KeyPair, from text: String = "/ip4/127.0.0.1/tcp/9") throws -> ConnectionID {
        let id = try swarm.accepted(from: Multiaddr(text), now: now)
        establish(id, as: key)
        return id
    }
}

extension [SwarmOrder] {
    var dials: [(id: ConnectionID, address: Multiaddr)] {
        compactMap { if case .dial(let id, let address, _) = $0 { (id, address) } else { nil } }
    }
    var closed: [ConnectionID] { compactMap { if case .close(let id, _) = $0 { id } else { nil } } }
    var retired: [ConnectionID] { compactMap { if case .retire(let id) = $0 { id } else { nil } } }
    var reinstated: [ConnectionID] { compactMap { if case .reinstate(let id) = $0 { id } else { nil } } }
    var completions: [RequestID: Result<ConnectedPeer, DialError>] {
        var found: [RequestID: Result<ConnectedPeer, DialError>] = [:]
        for case .completed(let request, let result) in self { found[request] = result }
        return found
    }
    var connectedPeers: [PeerID] {
        compactMap { if case .event(.connected(let peer, _, _)) = $0 { peer } else { nil } }
    }
    var pathChanges: [(connection: ConnectionID, path: PathKind)] {
        compactMap { if case .event(.pathChanged(_, let id, let path)) = $0 { (id, path) } else { nil } }
    }
    var disconnectedPeers: [PeerID] {
        compactMap { if case .event(.disconnected(let peer, _)) = $0 { peer } else { nil } }
    }
}

private func key(_ seed: UInt64) -> KeyPair {
    var random = RandomSource(seed: seed)
    return KeyPair(random: &random)
}

private let somewhere = "/ip4/127.0.0.1/tcp/4001"

@Test func aDialEndsWithTheConnectionThatWasMade() throws {
    var harness = SwarmHarness()
    let request = harness.connect(to: key(2).peerID, at: [try Multiaddr(somewhere)])
    let dial = try #require(harness.orders().dials.first)
    harness.establish(dial.id, as: key(2))
    let orders = harness.orders()
    #expect(try orders.completions[request]?.get() == ConnectedPeer(peer: key(2).peerID, connection: dial.id))
    #expect(orders.connectedPeers == [key(2).peerID])
}

@Test func dialsToOnePeerAreOneDial() throws {
    var harness = SwarmHarness()
    let first = harness.connect(to: key(2).peerID, at: [try Multiaddr(somewhere)])
    let second = harness.connect(to: key(2).peerID, at: [try Multiaddr(somewhere)])
    let dials = harness.orders().dials
    #expect(dials.count == 1)
    harness.establish(dials[0].id, as: key(2))
    let completions = harness.orders().completions
    #expect(completions[first] != nil && completions[second] != nil)
}

@Test func aDialThatFailsNamesEveryAddressAndItsReason() throws {
    var harness = SwarmHarness()
    let request = harness.connect(
        to: key(2).peerID, at: [try Multiaddr(somewhere), try Multiaddr("/ip4/127.0.0.1/tcp/1/ws")])
    let dial = try #require(harness.orders().dials.first)
    harness.swarm.dialFailed(dial.id, reason: "connection refused", now: harness.now)
    guard case .failure(let error) = harness.orders().completions[request] else {
        Issue.record("the dial did not fail")
        return
    }
    #expect(error.description.contains("connection refused"))
    #expect(error.description.contains("/tcp/1/ws"))
}

@Test func aDialGivesUpAfterItsTime() throws {
    var harness = SwarmHarness()
    let request = harness.connect(to: nil, at: [try Multiaddr(somewhere)])
    let dial = try #require(harness.orders().dials.first)
    harness.now = try #require(harness.swarm.deadline)
    harness.swarm.handleTimeout(now: harness.now)
    #expect(harness.orders().closed == [dial.id])
    harness.now = harness.now + .seconds(30)
    harness.swarm.handleTimeout(now: harness.now)
    #expect(harness.orders().completions[request] != nil)
}

/// A process that ended refuses over TCP and is silent over QUIC: the dial need not wait for that as for any other.
@Test func aMachineThatRefusesAtOneAddressIsAwaitedForLessAtOthers() throws {
    var harness = SwarmHarness()
    let addresses = try ["/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/udp/4001/quic-v1"].map { try Multiaddr($0) }
    let request = harness.connect(to: key(2).peerID, at: addresses)
    var dials = harness.orders().dials
    harness.now = harness.now + AddressRace.attemptDelay
    harness.swarm.handleTimeout(now: harness.now)
    dials += harness.orders().dials
    let tcp = try #require(dials.first { $0.address == addresses[0] })
    let quic = try #require(dials.first { $0.address == addresses[1] })
    harness.swarm.dialFailed(tcp.id, reason: "connection refused", isRefusal: true, now: harness.now)
    harness.now = harness.now + DialSettings.refusedHostTimeout
    harness.swarm.handleTimeout(now: harness.now)
    let orders = harness.orders()
    #expect(orders.closed == [quic.id])
    harness.swarm.dialFailed(quic.id, reason: "closed", now: harness.now)
    guard case .failure(let error) = harness.orders().completions[request] else {
        Issue.record("the dial did not fail")
        return
    }
    #expect(error.isRefusal)
    // Elsewhere nobody has said anything, and it is awaited as ever.
    let elsewhere = harness.connect(
        to: key(3).peerID, at: [addresses[0], try Multiaddr("/ip4/192.0.2.2/udp/4001/quic-v1")])
    dials = harness.orders().dials
    harness.now = harness.now + AddressRace.attemptDelay
    harness.swarm.handleTimeout(now: harness.now)
    dials += harness.orders().dials
    let refused = try #require(dials.first { $0.address == addresses[0] })
    harness.swarm.dialFailed(refused.id, reason: "connection refused", isRefusal: true, now: harness.now)
    harness.now = harness.now + DialSettings.refusedHostTimeout
    harness.swarm.handleTimeout(now: harness.now)
    let later = harness.orders()
    #expect(later.closed.isEmpty && later.completions[elsewhere] == nil)
}

@Test func dialingOneselfIsRefused() throws {
    var harness = SwarmHarness()
    let request = harness.connect(to: harness.swarm.local.peerID, at: [try Multiaddr(somewhere)])
    #expect(harness.orders().completions[request] == .failure(.isSelf))
    let unknown = harness.connect(to: nil, at: [try Multiaddr(somewhere)])
    let dial = try #require(harness.orders().dials.first)
    harness.establish(dial.id, as: key(1))
    #expect(harness.orders().closed == [dial.id])
    harness.swarm.connection(dial.id, reports: .closed(.closedLocally), now: harness.now)
    #expect(harness.orders().completions[unknown] != nil)
}

@Test func bothSidesOfCrossedDialsKeepTheSameConnection() throws {
    // Each side has one connection that it dialed and one that came in.
    for (mine, other) in [(UInt64(1), UInt64(2)), (2, 1)] {
        var harness = SwarmHarness(seed: mine)
        _ = harness.connect(to: key(other).peerID, at: [try Multiaddr(somewhere)])
        let dialed = try #require(harness.orders().dials.first).id
        let accepted = try harness.inbound(key(other))
        harness.establish(dialed, as: key(other))
        let retired = harness.orders().retired
        let keepsOwn = key(mine).peerID < key(other).peerID
        // Once the inbound one is there the dial is answered by it, and our own is only kept if it is the favourite.
        #expect(!retired.contains(keepsOwn ? dialed : accepted))
        #expect(
            harness.swarm.connection(to: key(other).peerID)
                == (retired.contains(dialed) ? accepted : retired.contains(accepted) ? dialed : accepted))
    }
}

@Test func theLimitOnPendingHandshakesIsNamed() throws {
    var limits = SwarmLimits()
    limits.maximumPendingInbound = 2
    let harness = SwarmHarness(limits: limits)
    _ = try harness.swarm.accepted(from: Multiaddr(somewhere), now: harness.now)
    _ = try harness.swarm.accepted(from: Multiaddr(somewhere), now: harness.now)
    #expect(throws: RefusedConnection(limit: "inbound handshakes under way")) {
        try harness.swarm.accepted(from: Multiaddr(somewhere), now: harness.now)
    }
}

@Test func oneHostCannotTakeEveryConnection() throws {
    var limits = SwarmLimits()
    limits.maximumInboundPerAddress = 2
    let harness = SwarmHarness(limits: limits)
    for port in 1...2 {
        _ = try harness.inbound(key(UInt64(port) + 10), from: "/ip4/192.0.2.1/tcp/\(port)")
    }
    #expect(throws: RefusedConnection.self) {
        try harness.swarm.accepted(from: Multiaddr("/ip4/192.0.2.1/tcp/3"), now: harness.now)
    }
    _ = try harness.swarm.accepted(from: Multiaddr("/ip4/192.0.2.2/tcp/3"), now: harness.now)
}

@Test func connectionsOfOnePeerAreLimited() throws {
    var limits = SwarmLimits()
    limits.maximumConnectionsPerPeer = 2
    let harness = SwarmHarness(limits: limits)
    for _ in 0..<2 { _ = try harness.inbound(key(5)) }
    _ = harness.orders()
    let third = try harness.inbound(key(5))
    #expect(harness.orders().closed == [third])
}

@Test func aboveTheHighMarkIdleConnectionsAreClosedDownToTheLowMark() throws {
    var limits = SwarmLimits()
    limits.highWaterConnections = 6
    limits.lowWaterConnections = 4
    var harness = SwarmHarness(limits: limits)
    var ids: [ConnectionID] = []
    for seed in 10..<16 { ids.append(try harness.inbound(key(UInt64(seed)))) }
    harness.swarm.connection(ids[5], reports: .usage(isBusy: true), now: harness.now)
    harness.swarm.protect(key(14).peerID, for: .kept)
    harness.now = harness.now + .seconds(60)
    _ = try harness.inbound(key(99))
    let closed = harness.orders().closed
    #expect(closed == [ids[3], ids[2], ids[1]])
}

@Test func peersOfAnotherNetworkAreSentAway() throws {
    let harness = SwarmHarness(network: "blue")
    let id = try harness.inbound(key(5))
    var info = IdentifyInfo()
    info.protocolVersion = "red"
    _ = harness.orders()
    harness.swarm.connection(id, reports: .identified(info, isPush: false), now: harness.now)
    let orders = harness.orders()
    guard case .close(id, let reason) = orders.first else {
        Issue.record("not closed")
        return
    }
    #expect(reason.contains("red") && reason.contains("blue"))
}

@Test func aKeptPeerIsDialedAgainAndMorePatientlyEachTime() throws {
    var harness = SwarmHarness()
    harness.swarm.keepConnected(to: try Multiaddr(somewhere + "/p2p/\(key(2).peerID)"), now: harness.now)
    var waits: [Duration] = []
    for _ in 0..<4 {
        let dial = try #require(harness.orders().dials.first)
        harness.swarm.dialFailed(dial.id, reason: "refused", now: harness.now)
        let next = try #require(harness.swarm.deadline)
        waits.append(next - harness.now)
        harness.now = next
        harness.swarm.handleTimeout(now: harness.now)
    }
    #expect(waits == [.seconds(1), .seconds(2), .seconds(4), .seconds(8)])
}

@Test func aKeptPeerIsDialedAtOnceInAnotherNetwork() throws {
    var harness = SwarmHarness()
    harness.swarm.keepConnected(to: try Multiaddr(somewhere + "/p2p/\(key(2).peerID)"), now: harness.now)
    for _ in 0..<4 {
        let dial = try #require(harness.orders().dials.first)
        harness.swarm.dialFailed(dial.id, reason: "refused", now: harness.now)
        harness.now = try #require(harness.swarm.deadline)
        harness.swarm.handleTimeout(now: harness.now)
    }
    let dial = try #require(harness.orders().dials.first)
    harness.swarm.dialFailed(dial.id, reason: "no network", now: harness.now)
    harness.swarm.networkChanged(now: harness.now)
    #expect(harness.swarm.deadline == harness.now)
    harness.swarm.handleTimeout(now: harness.now)
    #expect(harness.orders().dials.count == 1)
    #expect(harness.swarm.deadline == harness.now + .seconds(1))
}

@Test func theLastConnectionLostIsADisconnection() throws {
    let harness = SwarmHarness()
    let first = try harness.inbound(key(5))
    let second = try harness.inbound(key(5))
    _ = harness.orders()
    harness.swarm.connection(first, reports: .closed(.closedLocally), now: harness.now)
    #expect(harness.orders().disconnectedPeers.isEmpty)
    harness.swarm.connection(second, reports: .closed(.closedLocally), now: harness.now)
    #expect(harness.orders().disconnectedPeers == [key(5).peerID])
    #expect(harness.swarm.connectionCount == 0)
}

@Test func aCancelledRequestIsAnsweredAndItsDialEnds() throws {
    var harness = SwarmHarness()
    let request = harness.connect(to: key(2).peerID, at: [try Multiaddr(somewhere)])
    let dial = try #require(harness.orders().dials.first)
    harness.swarm.cancel(request, now: harness.now)
    let orders = harness.orders()
    #expect(orders.completions[request] == .failure(.cancelled))
    #expect(orders.closed == [dial.id])
}

// MARK: Paths

private let throughRelay = "/ip4/11.7.0.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit"

@Test(arguments: [
    (throughRelay, PathKind.relayed), ("/ip4/11.7.0.2/tcp/4001", .direct),
    ("/ip4/100.64.0.9/udp/4001/quic-v1", .direct),
    ("/ip4/192.168.1.9/tcp/4001", .lan), ("/ip6/fe80::1/tcp/4001", .lan), ("/unix/run/a", .lan),
    ("/dns4/example.com/tcp/4001", .direct),
])
func theKindOfAPathIsReadFromTheAddress(address: String, path: PathKind) throws {
    #expect(try PathKind(to: Multiaddr(address)) == path)
}

@Test func aDirectConnectionTakesOverFromARelayedOneAndBack() throws {
    let harness = SwarmHarness()
    let peer = key(2)
    let relayed = try harness.inbound(peer, from: throughRelay)
    #expect(harness.orders().pathChanges.isEmpty)
    let direct = try harness.inbound(peer, from: "/ip4/11.7.0.2/tcp/4001")
    let orders = harness.orders()
    #expect(orders.retired == [relayed])
    #expect(orders.pathChanges.map(\.connection) == [direct])
    #expect(orders.pathChanges.map(\.path) == [.direct])
    #expect(harness.swarm.connection(to: peer.peerID) == direct)

    harness.swarm.connection(direct, reports: .closed(.closedLocally), now: harness.now)
    let back = harness.orders()
    #expect(back.pathChanges.map(\.connection) == [relayed])
    #expect(back.reinstated == [relayed])
    #expect(harness.swarm.connectionInfos.map(\.isRetiring) == [false])
    harness.swarm.connection(relayed, reports: .closed(.closedLocally), now: harness.now)
    let last = harness.orders()
    #expect(last.pathChanges.isEmpty)
    #expect(last.disconnectedPeers == [peer.peerID])
}
