import MartletCore
import MartletIdentity
import MartletSwarm
import Testing

@testable import MartletReachability

/// When punches are tried again sooner than planned.
@Suite struct PunchScheduleTests {
    private let start = Instant(nanoseconds: 0)
    private let connection = ConnectionID(rawValue: 1)
    private let peer: PeerID = {
        var random = RandomSource(seed: 1)
        return KeyPair(random: &random).peerID
    }()

    /// After so many attempts that failed at the times when they were due.
    private func schedule(failures: Int) -> (PunchSchedule, Instant) {
        var schedule = PunchSchedule(limits: PunchLimits())
        var now = start
        for index in 0..<failures {
            if index > 0 { now = schedule.deadline ?? now }
            _ = schedule.nextDue(now: now)
            schedule.began(peer, over: connection)
            schedule.failed(peer, now: now)
        }
        return (schedule, now)
    }

    @Test func newsOfThePeerMakeItsTurnComeSooner() {
        var (schedule, failedAt) = schedule(failures: 4)
        #expect(schedule.deadline == failedAt + .seconds(60))
        schedule.hasten(peer, now: failedAt + .seconds(20))
        #expect(schedule.deadline == failedAt + .seconds(20))
        schedule.failed(peer, now: failedAt + .seconds(20))
        #expect(schedule.deadline == failedAt + .seconds(35))
    }

    @Test func newsRightAfterAFailureWaitForTheShortestDelay() {
        var (schedule, failedAt) = schedule(failures: 4)
        schedule.hasten(peer, now: failedAt + .seconds(1))
        #expect(schedule.deadline == failedAt + .seconds(5))
    }

    @Test(arguments: [false, true]) func newsDuringAPunchMakeTheNextComeSoon(isOwn: Bool) {
        var (schedule, now) = schedule(failures: 5)
        now = schedule.deadline ?? now
        let due = schedule.nextDue(now: now)
        #expect(due?.0 == peer)
        schedule.began(peer, over: connection)
        if isOwn { schedule.networkChanged(now: now) } else { schedule.hasten(peer, now: now) }
        #expect(schedule.deadline == nil)
        schedule.failed(peer, now: now + .seconds(12))
        #expect(schedule.deadline == now + .seconds(17))
    }

    @Test func newsBringNothingForwardThatIsDueSooner() {
        var (schedule, failedAt) = schedule(failures: 1)
        schedule.hasten(peer, now: failedAt)
        #expect(schedule.deadline == failedAt + .seconds(5))
        var idle = PunchSchedule(limits: PunchLimits())
        idle.hasten(peer, now: start)
        #expect(idle.deadline == nil)
    }

    @Test func aPeerMakesNoMorePunchesBeginByNewsThanByItself() {
        var (schedule, now) = schedule(failures: 4)
        var count = 0
        for _ in 0..<100 {
            now = now + .seconds(5)
            schedule.hasten(peer, now: now)
            guard schedule.nextDue(now: now) != nil else { break }
            count += 1
            schedule.failed(peer, now: now)
            // Far away again.
            for _ in 0..<6 { schedule.failed(peer, now: now) }
        }
        #expect(count == PunchLimits().maximumInboundPunches)
    }
}

@Suite struct DoubtedMappingTests {
    private let start = Instant(nanoseconds: 0)
    private let server = TransportAddress(.v4(IPv4Address(11, 7, 1, 1)), port: 4001)
    private let old = TransportAddress(.v4(IPv4Address(11, 9, 0, 1)), port: 4001)
    private let new = TransportAddress(.v4(IPv4Address(11, 9, 0, 2)), port: 4001)

    /// Has the server answer what it is asked.
    private func answer(_ observer: inout MappingObserver, seeing mapped: TransportAddress, now: Instant) throws {
        var random = RandomSource(seed: 1)
        let next = observer.nextOrder()
        let order = try #require(next)
        guard case .request(let id) = try STUNMessage(bytes: order.bytes) else { throw Unexpected() }
        let isTaken = observer.received(
            STUNMessage.response(id, mapped: mapped, other: nil, alternate: nil).bytes, random: &random, now: now)
        #expect(isTaken)
    }
    private struct Unexpected: Error {}

    @Test func aDoubtedMappingIsUsedUntilItIsFoundAnew() throws {
        var random = RandomSource(seed: 2)
        var observer = MappingObserver(port: 4001, localAddresses: [])
        observer.ask([server], random: &random, now: start)
        #expect(observer.isLearning)
        try answer(&observer, seeing: old, now: start + .seconds(1))
        #expect(!observer.isLearning && !observer.isDoubted)
        observer.doubt(now: start + .seconds(2))
        #expect(observer.isDoubted && observer.mapped == old)
        observer.ask([server], random: &random, now: start + .seconds(3))
        #expect(observer.isLearning)
        try answer(&observer, seeing: new, now: start + .seconds(4))
        #expect(!observer.isLearning && !observer.isDoubted && observer.mapped == new)
    }

    @Test func whatWasSeenAtALostAddressIsForgotten() throws {
        var random = RandomSource(seed: 2)
        var observer = MappingObserver(port: 4001, localAddresses: [])
        observer.ask([server], random: &random, now: start)
        try answer(&observer, seeing: old, now: start)
        observer.addressLost(new.ip)
        #expect(observer.mapped == old)
        observer.addressLost(old.ip)
        #expect(observer.mapped == nil)
    }
}
