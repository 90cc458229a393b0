import MartletCore
import MartletIdentity
import MartletSwarm
import Testing

@testable import MartletReachability

private let relayKey = KeyPair(seed: [UInt8](repeating: 2, count: 32))
private let local = KeyPair(seed: [UInt8](repeating: 1, count: 32)).peerID
private let relay = relayKey.peerID
private let transport = "/ip4/198.51.100.1/tcp/4001"

/// The machine alone; the test plays the relay and both clocks.
private struct Scene {
    var reservations: RelayReservations
    var now = Instant(nanoseconds: 0)
    var wallTime = WallTime(nanosecondsSince1970: 1_800_000_000_000_000_000)
    private var lastConnection: UInt64 = 0

    init(_ addresses: [String] = ["\(transport)/p2p/\(relay)"]) {
        reservations = RelayReservations(
            relays: addresses.map(multiaddr), local: local, random: RandomSource(seed: 7), now: now, wallTime: wallTime)
        tick()
    }

    mutating func orders() -> [RelayReservations.Order] {
        var orders: [RelayReservations.Order] = []
        while let order = reservations.nextOrder() { orders.append(order) }
        return orders
    }

    /// Both clocks go on and the machine looks at them.
    mutating func pass(_ time: Duration) {
        now = now + time
        wallTime.nanosecondsSince1970 += time.nanoseconds
        tick()
    }

    mutating func tick() { reservations.handleTimeout(now: now, wallTime: wallTime) }

    /// Lets time pass until the machine wants something, at most `limit`; returns how long that took.
    mutating func passUntilOrder(limit: Duration) -> (orders: [RelayReservations.Order], after: Duration)? {
        let start = now
        while now - start < limit {
            guard let deadline = reservations.deadline else { return nil }
            pass(max(.zero, deadline - now))
            let orders = orders()
            if !orders.isEmpty { return (orders, now - start) }
        }
        return nil
    }

    /// The relay answers the dial.
    mutating func connect(_ index: Int = 0, _ peer: PeerID = relay, roundTrip: Duration? = nil) -> ConnectionID {
        lastConnection += 1
        let id = ConnectionID(rawValue: lastConnection)
        reservations.connected(
            .init(index: index), peer, over: id, at: multiaddr(transport), roundTrip: roundTrip, now: now)
        return id
    }

    mutating func answer(
        _ connection: ConnectionID, _ index: Int = 0, lifetime: Int64 = 3600, addresses: [String] = [],
        voucher: [UInt8]? = nil, limit: ConnectionLimit? = nil
    ) {
        let seconds = UInt64(wallTime.nanosecondsSince1970 / 1_000_000_000 + lifetime)
        let reservation = CircuitReservation(
            expiration: seconds, addresses: addresses.map(multiaddr), voucher: voucher)
        outcome(connection, .reserved(reservation, limit: limit), index)
    }

    mutating func outcome(_ connection: ConnectionID, _ outcome: ReservationRequest.Outcome, _ index: Int = 0) {
        reservations.answered(.init(index: index), over: connection, outcome, now: now, wallTime: wallTime)
    }

    /// Connected, reserved, and all orders of it taken.
    mutating func reserve(lifetime: Int64 = 3600) -> ConnectionID {
        let connection = connect()
        answer(connection, lifetime: lifetime)
        _ = orders()
        return connection
    }
}

private let circuit = "\(transport)/p2p/\(relay)/p2p-circuit"

@Suite struct RelayReservationsTests {
    @Test func aRelayIsConnectedAskedAndAnnounced() throws {
        var scene = Scene()
        #expect(scene.orders() == [.connect(.init(index: 0), relay, at: [multiaddr(transport)])])
        #expect(!scene.reservations.isReachable(through: relay))
        let connection = scene.connect()
        #expect(scene.orders() == [.reserve(.init(index: 0), connection)])
        #expect(scene.reservations.isReachable(through: relay))
        let voucher = ReservationVoucher(relay: relay, client: local, expiration: 1).sealed(with: relayKey)
        scene.answer(
            connection, addresses: ["/ip4/198.51.100.1/udp/4001/quic-v1/p2p/\(relay)", "/ip4/10.0.0.1/tcp/4001"],
            voucher: voucher.bytes, limit: ConnectionLimit(byteCount: 1000))
        let announced = [
            multiaddr(circuit), multiaddr("/ip4/198.51.100.1/udp/4001/quic-v1/p2p/\(relay)/p2p-circuit"),
        ]
        #expect(scene.orders() == [.announce(announced), .event(.reserved(relay, addresses: announced))])
        let status = try #require(scene.reservations.statuses.first)
        #expect(status.expiresIn == .seconds(3600) && status.hasVoucher && status.limit?.byteCount == 1000)
    }

    @Test func aVoucherForSomebodyElseCountsAsNone() throws {
        var scene = Scene()
        let connection = scene.connect()
        let voucher = ReservationVoucher(relay: relay, client: relay, expiration: 1).sealed(with: relayKey)
        scene.answer(connection, voucher: voucher.bytes)
        #expect(scene.reservations.statuses.first?.hasVoucher == false)
        #expect(scene.reservations.statuses.first?.expiresIn != nil)
    }

    @Test func aReservationIsRefreshedLongBeforeItEnds() throws {
        var scene = Scene()
        let connection = scene.reserve(lifetime: 120)
        let next = scene.passUntilOrder(limit: .seconds(300))
        let refresh = try #require(next)
        #expect(refresh.orders == [.reserve(.init(index: 0), connection)])
        #expect(refresh.after <= .seconds(60) && refresh.after >= .seconds(40))
        // Renewed in silence: nothing has changed for anybody.
        scene.answer(connection, lifetime: 120)
        #expect(scene.orders().isEmpty)
    }

    @Test func aLifetimeMisjudgedByWrongClocksIsStillRefreshedOften() throws {
        for lifetime in [Int64(100_000_000_000), -7200, 0] {
            var scene = Scene()
            let connection = scene.reserve(lifetime: lifetime)
            let next = scene.passUntilOrder(limit: .seconds(1200))
            let refresh = try #require(next)
            #expect(refresh.orders == [.reserve(.init(index: 0), connection)])
            #expect(refresh.after <= .seconds(600) && refresh.after > .seconds(2))
        }
    }

    @Test func aReservationThatIsNotRenewedEnds() throws {
        var scene = Scene()
        let connection = scene.reserve(lifetime: 60)
        var lost = false
        while !lost, scene.now < Instant(nanoseconds: 0) + .seconds(100) {
            let next = scene.passUntilOrder(limit: .seconds(100))
            for order in try #require(next).orders {
                switch order {
                case .reserve: scene.outcome(connection, .refused(.resourceLimitExceeded))
                case .announce(let addresses): #expect(addresses.isEmpty)
                case .event(.lost(let peer, _)): lost = peer == relay
                case .event(.failed(let peer, _, let reason)):
                    #expect(peer == relay && reason.contains("RESOURCE_LIMIT_EXCEEDED"))
                case .event(.reserved), .connect: Issue.record("\(order)")
                }
            }
        }
        #expect(lost)
        #expect(scene.now == Instant(nanoseconds: 0) + .seconds(60))
    }

    @Test func aLostConnectionIsHealedWithinFiveSecondsOfTheRelaysReturn() throws {
        // The relay stays away for every number of seconds up to a minute.
        for outage in 1...60 {
            var scene = Scene()
            let connection = scene.reserve()
            scene.reservations.connectionClosed(connection, "restarted", now: scene.now)
            #expect(
                scene.orders() == [.announce([]), .event(.lost(relay, reason: "restarted"))])
            let back = scene.now + .seconds(outage)
            while true {
                let next = scene.passUntilOrder(limit: .seconds(30))
                let orders = try #require(next).orders
                guard orders.contains(.connect(.init(index: 0), relay, at: [multiaddr(transport)])) else { continue }
                if scene.now >= back { break }
                scene.reservations.connectFailed(.init(index: 0), "connection refused", now: scene.now)
            }
            #expect(scene.now - back < .seconds(5))
        }
    }

    @Test func attemptsBecomeSeldomInTheEnd() throws {
        var scene = Scene()
        _ = scene.orders()
        var delays: [Duration] = []
        for _ in 0..<100 {
            scene.reservations.connectFailed(.init(index: 0), "connection refused", now: scene.now)
            while true {
                let next = scene.passUntilOrder(limit: .seconds(60))
                let found = try #require(next)
                // The first failure is told as well.
                if found.orders.contains(where: { if case .connect = $0 { true } else { false } }) {
                    delays.append(found.after)
                    break
                }
            }
        }
        #expect(try #require(delays.first) <= .milliseconds(500))
        #expect(try #require(delays.last) >= .seconds(20))
    }

    @Test func theSameFailureIsToldOnce() {
        var scene = Scene()
        _ = scene.orders()
        for _ in 0..<3 { scene.reservations.connectFailed(.init(index: 0), "connection refused", now: scene.now) }
        #expect(scene.orders().count == 1)
    }

    @Test func refusalsAreFollowedByEverLongerWaits() throws {
        var scene = Scene()
        let connection = scene.connect()
        _ = scene.orders()
        var delays: [Duration] = []
        for _ in 0..<10 {
            scene.outcome(connection, .refused(.permissionDenied))
            _ = scene.orders()
            let next = scene.passUntilOrder(limit: .seconds(600))
            let found = try #require(next)
            #expect(found.orders == [.reserve(.init(index: 0), connection)])
            delays.append(found.after)
        }
        #expect(try #require(delays.first) <= .seconds(5) && delays[0] >= .seconds(3))
        #expect(try #require(delays.last) >= .seconds(200) && delays[9] <= .seconds(300))
    }

    @Test func aMachineThatSleptRefreshesAtOnce() throws {
        var scene = Scene()
        let connection = scene.reserve()
        scene.pass(.seconds(5))
        #expect(scene.orders().isEmpty)
        // The monotonic clock stood still meanwhile.
        scene.wallTime.nanosecondsSince1970 += 7_200_000_000_000
        scene.pass(.seconds(5))
        #expect(scene.orders() == [.reserve(.init(index: 0), connection)])
    }

    @Test func inAnotherNetworkAReservationIsRenewedAtOnce() throws {
        var scene = Scene()
        let connection = scene.reserve()
        scene.reservations.networkChanged(now: scene.now)
        scene.tick()
        #expect(scene.orders() == [.reserve(.init(index: 0), connection)])
    }

    @Test func inAnotherNetworkARelayThatWasOutOfReachIsDialedAtOnce() throws {
        var scene = Scene()
        _ = scene.orders()
        for _ in 0..<100 {
            scene.reservations.connectFailed(.init(index: 0), "no network", now: scene.now)
            _ = scene.passUntilOrder(limit: .seconds(60))
        }
        scene.reservations.connectFailed(.init(index: 0), "no network", now: scene.now)
        _ = scene.orders()
        scene.reservations.networkChanged(now: scene.now)
        scene.tick()
        #expect(scene.orders() == [.connect(.init(index: 0), relay, at: [multiaddr(transport)])])
        // Soon again, if it was too early.
        scene.reservations.connectFailed(.init(index: 0), "no network yet", now: scene.now)
        _ = scene.orders()
        let again = scene.passUntilOrder(limit: .seconds(60))
        #expect(try #require(again).after <= .milliseconds(500))
    }

    @Test func aSmallCorrectionOfTheClockIsNoSleep() {
        var scene = Scene()
        _ = scene.reserve()
        scene.wallTime.nanosecondsSince1970 -= 3_000_000_000
        scene.pass(.seconds(5))
        #expect(scene.orders().isEmpty)
    }

    @Test func theNearestRelayIsAnnouncedFirst() throws {
        let other = KeyPair(seed: [UInt8](repeating: 3, count: 32)).peerID
        var scene = Scene(["\(transport)/p2p/\(relay)", "/ip4/203.0.114.9/tcp/4001/p2p/\(other)"])
        let far = scene.connect(0, relay, roundTrip: .milliseconds(80))
        let near = scene.connect(1, other, roundTrip: .milliseconds(5))
        scene.answer(far, 0)
        _ = scene.orders()
        scene.answer(near, 1)
        let announced = scene.orders().compactMap { if case .announce(let addresses) = $0 { addresses } else { nil } }
        #expect(announced.last == [multiaddr("\(transport)/p2p/\(other)/p2p-circuit"), multiaddr(circuit)])
        // A round trip that changes later does not shuffle what peers were told.
        scene.reservations.roundTrip(.milliseconds(1), of: far)
        #expect(scene.orders().isEmpty)
    }

    @Test func aRelayGivenByTwoAddressesIsOneRelay() {
        var scene = Scene(["\(transport)/p2p/\(relay)", "/ip4/198.51.100.1/udp/4001/quic-v1/p2p/\(relay)"])
        #expect(
            scene.orders() == [
                .connect(
                    .init(index: 0), relay,
                    at: [multiaddr(transport), multiaddr("/ip4/198.51.100.1/udp/4001/quic-v1")])
            ])
        // Given without its id as well, it is found out after the connection.
        var twice = Scene(["\(transport)/p2p/\(relay)", transport])
        _ = twice.connect(0)
        _ = twice.orders()
        _ = twice.connect(1)
        #expect(twice.orders().isEmpty)
    }

    @Test func anAnswerOverAConnectionThatIsGoneIsIgnored() {
        var scene = Scene()
        let connection = scene.connect()
        scene.reservations.connectionClosed(connection, "gone", now: scene.now)
        _ = scene.orders()
        scene.answer(connection)
        #expect(scene.orders().isEmpty)
        #expect(scene.reservations.statuses[0].expiresIn == nil)
    }
}
