import MartletCore
import MartletIdentity
import MartletSwarm
import Testing

@testable import MartletReachability

private func peer(_ seed: UInt8) -> PeerID {
    KeyPair(seed: [UInt8](repeating: seed, count: 32)).peerID
}

private func time(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

private func client(_ seed: UInt8, connection: UInt64? = nil, at address: String = "/ip4/198.51.100.1/tcp/4001") throws
    -> RelayClient
{
    RelayClient(
        peer: peer(seed), connection: ConnectionID(rawValue: connection ?? UInt64(seed)),
        remoteAddress: try Multiaddr(address))
}

/// The books behind a reference, so that expectations may change them.
private final class Books {
    private var server: RelayServer

    init(_ change: (inout RelayConfiguration) -> Void) {
        var configuration = RelayConfiguration()
        change(&configuration)
        server = RelayServer(local: peer(255), configuration: configuration)
    }

    func reserve(_ client: RelayClient, now: Instant) throws -> Duration { try server.reserve(client, now: now) }

    func connect(_ client: RelayClient, to target: PeerID, now: Instant) throws
        -> (circuit: CircuitID, connection: ConnectionID)
    {
        try server.connect(client, to: target, now: now)
    }

    func circuitEnded(_ id: CircuitID) { server.circuitEnded(id) }

    func connectionClosed(_ id: ConnectionID, replacement: ConnectionID?) -> Bool {
        server.connectionClosed(id, replacement: replacement)
    }

    func handleTimeout(now: Instant) -> [PeerID] { server.handleTimeout(now: now) }
    func holder(over connection: ConnectionID) -> PeerID? { server.holder(over: connection) }
    var deadline: Instant? { server.deadline }
    var limit: ConnectionLimit? { server.limit }
    var reservationCount: Int { server.reservationCount }
    var circuitCount: Int { server.circuitCount }
    var expiryCount: Int { server.expiryCount }
}

private func server(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> Books { Books(change) }

private func refusal(_ body: () throws -> Void) -> CircuitStatus? {
    do {
        try body()
        return nil
    } catch {
        return (error as? RelayRefusal)?.status
    }
}

@Suite struct RelayServerTests {
    @Test func aPeerIsReachedWhileItHoldsAReservation() throws {
        let relay = server()
        let now = time(0)
        #expect(refusal { _ = try relay.connect(client(1), to: peer(2), now: now) } == .noReservation)
        #expect(try relay.reserve(client(2), now: now) == .seconds(3600))
        let (circuit, connection) = try relay.connect(client(1), to: peer(2), now: now)
        #expect(connection == ConnectionID(rawValue: 2))
        #expect(relay.circuitCount == 1)
        relay.circuitEnded(circuit)
        relay.circuitEnded(circuit)
        #expect(relay.circuitCount == 0)
        #expect(refusal { _ = try relay.connect(client(1), to: peer(2), now: time(3600)) } == .noReservation)
    }

    @Test func aPeerIsNotConnectedToItself() throws {
        let relay = server()
        _ = try relay.reserve(client(2), now: time(0))
        #expect(refusal { _ = try relay.connect(client(2), to: peer(2), now: time(0)) } == .permissionDenied)
    }

    @Test func relaysAreNotChained() throws {
        let relay = server()
        let address = "/ip4/198.51.100.9/tcp/1/p2p/\(peer(9))/p2p-circuit"
        _ = try relay.reserve(client(2), now: time(0))
        #expect(refusal { _ = try relay.reserve(client(1, at: address), now: time(0)) } == .permissionDenied)
        #expect(
            refusal { _ = try relay.connect(client(1, at: address), to: peer(2), now: time(0)) } == .permissionDenied)
    }

    @Test func aReservationEndsWithItsConnection() throws {
        let relay = server()
        _ = try relay.reserve(client(2, connection: 5), now: time(0))
        #expect(relay.holder(over: ConnectionID(rawValue: 5)) == peer(2))
        #expect(!relay.connectionClosed(ConnectionID(rawValue: 4), replacement: nil))
        #expect(relay.connectionClosed(ConnectionID(rawValue: 5), replacement: nil))
        #expect(refusal { _ = try relay.connect(client(1), to: peer(2), now: time(0)) } == .noReservation)
    }

    @Test func anotherConnectionOfThePeerStandsIn() throws {
        let relay = server()
        _ = try relay.reserve(client(2, connection: 5), now: time(0))
        #expect(!relay.connectionClosed(ConnectionID(rawValue: 5), replacement: ConnectionID(rawValue: 6)))
        #expect(try relay.connect(client(1), to: peer(2), now: time(0)).connection == ConnectionID(rawValue: 6))
        #expect(relay.connectionClosed(ConnectionID(rawValue: 6), replacement: nil))
        #expect(relay.reservationCount == 0)
    }

    @Test func reservationsExpireUnlessRenewed() throws {
        let relay = server { $0.reservationLifetime = .seconds(100) }
        _ = try relay.reserve(client(2), now: time(0))
        _ = try relay.reserve(client(3), now: time(0))
        _ = try relay.reserve(client(3), now: time(60))
        #expect(relay.deadline == time(100))
        #expect(relay.handleTimeout(now: time(100)) == [peer(2)])
        #expect(relay.reservationCount == 1)
        #expect(relay.handleTimeout(now: time(160)) == [peer(3)])
        #expect(relay.deadline == nil)
    }

    @Test func renewingForEverGrowsNothing() throws {
        let relay = server { $0.maximumReservationsPerRange = 1 }
        for second in 0..<10_000 { _ = try relay.reserve(client(2), now: time(Int64(second))) }
        #expect(relay.reservationCount == 1)
        #expect(relay.expiryCount <= 66)
        #expect(relay.handleTimeout(now: time(9_998 + 3600)) == [])
        #expect(relay.handleTimeout(now: time(9_999 + 3600)) == [peer(2)])
    }

    @Test func reservationsHaveALimit() throws {
        let relay = server { $0.maximumReservations = 2 }
        _ = try relay.reserve(client(1), now: time(0))
        _ = try relay.reserve(client(2), now: time(0))
        #expect(refusal { _ = try relay.reserve(client(3), now: time(0)) } == .reservationRefused)
        // Renewing is not reserving once more.
        _ = try relay.reserve(client(2), now: time(1))
        #expect(relay.connectionClosed(ConnectionID(rawValue: 1), replacement: nil))
        _ = try relay.reserve(client(3), now: time(1))
    }

    @Test func manyIdentitiesInOneNetworkAreOneAttacker() throws {
        let relay = server { $0.maximumReservationsPerRange = 2 }
        _ = try relay.reserve(client(1, at: "/ip4/198.51.100.1/tcp/1"), now: time(0))
        _ = try relay.reserve(client(2, at: "/ip6/::ffff:198.51.100.2/tcp/1"), now: time(0))
        #expect(
            refusal { _ = try relay.reserve(client(3, at: "/ip4/198.51.100.250/udp/1/quic-v1"), now: time(0)) }
                == .reservationRefused)
        _ = try relay.reserve(client(3, at: "/ip4/198.51.101.1/tcp/1"), now: time(0))
        _ = try relay.reserve(client(4, at: "/ip6/2600:7:1::1/tcp/1"), now: time(0))
        _ = try relay.reserve(client(5, at: "/ip6/2600:7:1:ffff::1/tcp/1"), now: time(0))
        #expect(
            refusal { _ = try relay.reserve(client(6, at: "/ip6/2600:7:1:2::9/tcp/1"), now: time(0)) }
                == .reservationRefused)
        // The machine itself is no attacker from outside.
        for seed in 10..<20 { _ = try relay.reserve(client(UInt8(seed), at: "/ip4/127.0.0.1/tcp/1"), now: time(0)) }
        // A peer that moves takes its place with it.
        _ = try relay.reserve(client(1, at: "/ip4/192.0.2.1/tcp/1"), now: time(0))
        _ = try relay.reserve(client(6, at: "/ip4/198.51.100.250/tcp/1"), now: time(0))
    }

    @Test func circuitsHaveLimits() throws {
        let relay = server {
            $0.maximumCircuits = 4
            $0.maximumCircuitsPerPeer = 2
            $0.maximumCircuitsPerRange = 3
        }
        let home = "/ip4/192.0.2.1/tcp/1"
        _ = try relay.reserve(client(2), now: time(0))
        _ = try relay.reserve(client(3), now: time(0))
        _ = try relay.reserve(client(4), now: time(0))
        let first = try relay.connect(client(10, at: home), to: peer(2), now: time(0)).circuit
        _ = try relay.connect(client(11, at: home), to: peer(2), now: time(0))
        // Two to one peer.
        #expect(
            refusal { _ = try relay.connect(client(12), to: peer(2), now: time(0)) } == .resourceLimitExceeded)
        relay.circuitEnded(first)
        let again = try relay.connect(client(11, at: home), to: peer(3), now: time(0)).circuit
        // Two from one peer.
        #expect(
            refusal { _ = try relay.connect(client(11), to: peer(4), now: time(0)) } == .resourceLimitExceeded)
        _ = try relay.connect(client(12, at: home), to: peer(3), now: time(0))
        // Three from one network.
        #expect(
            refusal { _ = try relay.connect(client(13, at: home), to: peer(4), now: time(0)) } == .resourceLimitExceeded
        )
        _ = try relay.connect(client(13), to: peer(4), now: time(0))
        // Four in all.
        #expect(
            refusal { _ = try relay.connect(client(14), to: peer(4), now: time(0)) } == .resourceLimitExceeded)
        relay.circuitEnded(again)
        _ = try relay.connect(client(14), to: peer(4), now: time(0))
    }

    @Test func onlyThoseAllowedAreServed() throws {
        let relay = server {
            $0.allowedPeers = [peer(1), peer(2), peer(3)]
            $0.allows = { request in
                if case .connect(let source, _, _) = request { return source != peer(3) }
                return true
            }
        }
        _ = try relay.reserve(client(2), now: time(0))
        #expect(refusal { _ = try relay.reserve(client(4), now: time(0)) } == .permissionDenied)
        #expect(refusal { _ = try relay.connect(client(4), to: peer(2), now: time(0)) } == .permissionDenied)
        #expect(refusal { _ = try relay.connect(client(3), to: peer(2), now: time(0)) } == .permissionDenied)
        _ = try relay.connect(client(1), to: peer(2), now: time(0))
    }

    @Test func withoutLimitsNoneAreTold() {
        #expect(server().limit == ConnectionLimit(duration: .seconds(3600), byteCount: 1 << 30))
        #expect(server { $0.circuitLimit = nil }.limit == nil)
        #expect(server { $0.circuitLimit = ConnectionLimit() }.limit == nil)
    }

    @Test func clientsAreToldAddressesThatReachAsFarAsTheirOwn() throws {
        let all = try [
            "/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001", "/ip4/8.8.8.8/tcp/4001",
        ].map { try Multiaddr($0) }
        func told(_ client: String) throws -> [String] {
            RelayAddresses.told(all, relay: peer(9), to: try Multiaddr(client)).map { "\($0.withoutPeerID)" }
        }
        #expect(try told("/ip4/1.1.1.1/tcp/9") == ["/ip4/8.8.8.8/tcp/4001"])
        #expect(try told("/ip4/192.168.1.9/tcp/9") == ["/ip4/8.8.8.8/tcp/4001", "/ip4/192.168.1.7/tcp/4001"])
        #expect(try told("/ip4/127.0.0.1/tcp/9").count == 3)
        // None is better than those there are.
        let lan = try [Multiaddr("/ip4/192.168.1.7/tcp/4001")]
        // A name is for everybody.
        let named = try [Multiaddr("/ip4/192.168.1.7/tcp/4001"), Multiaddr("/dns4/relay.example/tcp/443")]
        #expect(
            RelayAddresses.told(named, relay: peer(9), to: try Multiaddr("/ip4/1.1.1.1/tcp/9")).map(\.withoutPeerID)
                == [named[1]])
        #expect(RelayAddresses.told(lan, relay: peer(9), to: try Multiaddr("/ip4/1.1.1.1/tcp/9")).count == 1)
        let many = try (1...100).map { try Multiaddr("/ip4/8.8.8.8/tcp/\($0)") }
        #expect(RelayAddresses.told(many, relay: peer(9), to: many[0]).count == Circuit.addressLimit)
    }
}
