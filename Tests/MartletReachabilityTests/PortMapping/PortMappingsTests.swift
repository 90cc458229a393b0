import MartletCore
import Testing

@testable import MartletReachability

private let tcp = PortMappingTarget(isTCP: true, port: 4001)
private let udp = PortMappingTarget(isTCP: false, port: 4001)
private let outside = IPAddress.v4(IPv4Address(11, 7, 0, 9))

private func second(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

private func milliseconds(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

private final class Scene {
    var machine = PortMappings()
    /// Ways that were tried and whose answer is to come.
    var probed: [PortMappingMethod] = []

    func asked() -> [(method: PortMappingMethod, requests: [PortMappingRequest])] {
        var found: [(PortMappingMethod, [PortMappingRequest])] = []
        while let order = machine.nextOrder() {
            switch order {
            case .probe(let method): probed.append(method)
            case .ask(let method, let requests): found.append((method, requests))
            }
        }
        return found
    }

    func probe(_ method: PortMappingMethod, isThere: Bool, epoch: UInt32? = nil, at now: Instant) {
        #expect(asked().isEmpty)
        #expect(probed.contains(method))
        probed.removeAll { $0 == method }
        machine.probed(
            method, isThere ? .success(()) : .failure(PortMappingFailure("no \(method.rawValue)")), epoch: epoch,
            now: now)
    }

    /// The gateway knows only these ways.
    func know(_ known: PortMappingMethod..., at seconds: Int64) {
        #expect(asked().isEmpty)
        for method in probed.reversed() {
            machine.probed(
                method, known.contains(method) ? .success(()) : .failure(PortMappingFailure("no \(method.rawValue)")),
                now: second(seconds))
        }
        probed = []
    }

    /// Answers the one question that there must be: the ports given for those asked, nil where the gateway refuses.
    func answer(
        _ ports: [UInt16?]?, lifetime: UInt32? = 3600, by method: PortMappingMethod, epoch: UInt32? = nil,
        at seconds: Int64, from address: IPAddress = outside
    ) {
        let questions = asked()
        #expect(questions.map(\.method) == [method])
        guard let requests = questions.first?.requests else { return }
        guard let ports else {
            return machine.answered(
                method, .failure(PortMappingFailure("no \(method.rawValue)")), externalAddress: nil, epoch: epoch,
                now: second(seconds))
        }
        let answers = zip(requests, ports).map { request, port -> (PortMappingRequest, PortMappingAnswer) in
            (request, port.map { .mapped(externalPort: $0, lifetime: lifetime) } ?? .failed("taken"))
        }
        machine.answered(
            method, .success(answers), externalAddress: address, epoch: epoch, now: second(seconds))
    }
}

@Test func allWaysAreTriedAtOnceAndTheFirstThatAnswersIsAskedOnceBetterOnesHadTheirTime() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    #expect(scene.asked().isEmpty)
    #expect(scene.probed == [.pcp, .natPMP, .upnp])
    #expect(!scene.machine.isBusy)
    #expect(scene.machine.isUndecided)
    scene.probe(.upnp, isThere: true, at: milliseconds(300))
    #expect(scene.asked().isEmpty)
    #expect(scene.machine.deadline == milliseconds(350))
    scene.machine.advance(now: milliseconds(350))
    #expect(scene.machine.isBusy)
    scene.answer([4001, 4001], by: .upnp, at: 1)
    #expect(scene.machine.mappings.map(\.method) == [.upnp, .upnp])
    #expect(!scene.machine.isUndecided)
    // What answers late is not asked any more.
    scene.probe(.pcp, isThere: true, at: second(2))
    #expect(scene.asked().isEmpty)
}

@Test func pcpIsPreferredWhereItAnswersWithinAMoment() {
    let scene = Scene()
    scene.machine.update([tcp], now: second(0))
    _ = scene.asked()
    scene.probe(.natPMP, isThere: true, at: milliseconds(2))
    scene.probe(.pcp, isThere: true, at: milliseconds(30))
    scene.answer([4001], by: .pcp, at: 1)
    #expect(scene.machine.mappings.map(\.method) == [.pcp])
}

@Test func aWayThatFailedIsNotWaitedForAndWhatOneDoesNotForwardTheNextIsAskedFor() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    _ = scene.asked()
    scene.probe(.natPMP, isThere: true, at: milliseconds(2))
    scene.probe(.pcp, isThere: false, at: milliseconds(3))
    scene.answer([4001, nil], by: .natPMP, at: 1)
    #expect(scene.machine.mappings.map(\.target) == [tcp])
    scene.probe(.upnp, isThere: true, at: second(2))
    scene.answer([5000], by: .upnp, at: 3)
    #expect(scene.asked().isEmpty)
    #expect(scene.machine.mappings.map(\.method) == [.natPMP, .upnp])
    #expect(scene.machine.mappings.map(\.externalPort) == [4001, 5000])
    #expect(scene.machine.mappings.allSatisfy { $0.externalAddress == outside })
    #expect(scene.machine.failures.isEmpty)
}

@Test func aMappingIsRenewedAtHalfItsLifeByTheWayThatWorkedAndAtThePortItHas() throws {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(.natPMP, at: 0)
    scene.answer([40_000], lifetime: 120, by: .natPMP, at: 0)
    #expect(scene.machine.deadline == second(60))
    scene.machine.advance(now: second(59))
    #expect(scene.asked().isEmpty)
    scene.machine.advance(now: second(60))
    let renewal = try #require(scene.asked().first)
    #expect(renewal.method == .natPMP)
    #expect(renewal.requests.map(\.externalPort) == [40_000])
}

@Test func eachPortIsRenewedByTheWayThatForwardedIt() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    scene.know(.pcp, .upnp, at: 0)
    scene.answer([4001, nil], by: .pcp, at: 0)
    scene.answer([4001], by: .upnp, at: 0)
    scene.machine.advance(now: second(300))
    scene.answer([4001], by: .pcp, at: 300)
    scene.answer([4001], by: .upnp, at: 300)
    #expect(scene.machine.mappings.map(\.target) == [tcp, udp])
    #expect(scene.asked().isEmpty)
    #expect(scene.probed.isEmpty)
}

@Test func aGatewayThatLostItsStateIsAskedAgainAtOnce() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(.natPMP, at: 0)
    scene.answer([4001], by: .natPMP, epoch: 1000, at: 0)
    // It says that it is still there.
    scene.machine.announced(.natPMP, epoch: 1010, delay: .zero, now: second(10))
    #expect(scene.machine.deadline == second(300))
    scene.machine.announced(.natPMP, epoch: 0, delay: .milliseconds(500), now: second(20))
    #expect(scene.machine.deadline == milliseconds(20_500))
    scene.machine.advance(now: milliseconds(20_500))
    scene.answer([4001], by: .natPMP, epoch: 0, at: 21)
    // Somebody who forges that cannot make the node ask all the time.
    scene.machine.announced(.natPMP, epoch: 500, delay: .zero, now: second(21))
    #expect(scene.machine.deadline == milliseconds(22_500))
}

@Test func aGatewayMayAnnounceItselfInAnotherWayThanItForwards() {
    for (epoch, deadline) in [(UInt32(99), second(300)), (98, second(300)), (97, second(100)), (0, second(100))] {
        let scene = Scene()
        scene.machine.update([udp], now: second(0))
        scene.know(.upnp, at: 0)
        scene.answer([4001], by: .upnp, at: 0)
        scene.machine.announced(.pcp, epoch: epoch, delay: .zero, now: second(100))
        #expect(scene.machine.deadline == deadline)
    }
}

@Test func aGatewayThatAppearsIsAskedSoonerThanPlanned() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(at: 0)
    #expect(scene.machine.deadline == second(30))
    scene.machine.announced(.pcp, epoch: 0, delay: .zero, now: second(5))
    #expect(scene.machine.deadline == second(5))
}

@Test func anAnnouncementWithoutPortsToForwardDoesNothing() {
    let scene = Scene()
    scene.machine.announced(.pcp, epoch: 0, delay: .zero, now: second(5))
    scene.machine.advance(now: second(5))
    #expect(scene.asked().isEmpty)
    #expect(scene.probed.isEmpty)
    #expect(scene.machine.deadline == nil)
}

/// RFC 6887, section 8.5, between an answer of 1000 s and the next.
@Test(
    arguments: [
        (1100, 100, false), (1000, 100, true), (999, 0, false), (998, 0, true), (1200, 100, true), (1105, 100, false),
        (1000, 2, false), (0, 1, true), (5000, 4000, false), (4800, 4000, false), (4600, 4000, true),
    ] as [(UInt32, Int64, Bool)])
func anEpochThatDoesNotFitTheTimePassedShowsThatStateWasLost(_ epoch: UInt32, _ seconds: Int64, _ isLost: Bool) {
    var state = GatewayEpoch()
    let first = state.note(1000, now: second(7))
    #expect(!first)
    let later = state.note(epoch, now: second(7 + seconds))
    #expect(later == isLost)
}

@Test func anUnendingOrLongMappingIsLookedAtEveryFiveMinutesBecauseGatewaysRestart() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(.pcp, at: 0)
    scene.answer([4001], lifetime: nil, by: .pcp, at: 0)
    #expect(scene.machine.deadline == second(300))
    scene.machine.advance(now: second(300))
    scene.answer([4001], lifetime: 86_400, by: .pcp, at: 300)
    #expect(scene.machine.deadline == second(600))
}

@Test func anotherAddressOutsideIsNoticedAtTheRenewal() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(.pcp, at: 0)
    scene.answer([4001], by: .pcp, at: 0)
    scene.machine.refresh(now: second(10))
    let other = IPAddress.v4(IPv4Address(11, 7, 0, 77))
    scene.answer([4001], by: .pcp, at: 10, from: other)
    #expect(scene.machine.mappings.map(\.externalAddress) == [other])
}

@Test func whatNoGatewayRenewsIsGone() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.know(.pcp, at: 0)
    scene.answer([4001], by: .pcp, at: 0)
    scene.machine.advance(now: second(300))
    scene.answer(nil, by: .pcp, at: 301)
    #expect(scene.machine.mappings.count == 1)
    scene.know(at: 302)
    #expect(scene.machine.mappings.isEmpty)
    #expect(scene.machine.failures == ["no pcp", "no nat-pmp", "no upnp"])
}

@Test func withoutAGatewayItIsTriedAgainMoreAndMoreSeldom() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    var now: Int64 = 0
    var waits: [Duration] = []
    for _ in 0..<9 {
        scene.know(at: now)
        guard let next = scene.machine.deadline else { break }
        waits.append(next - second(now))
        now = next.nanoseconds / 1_000_000_000
        scene.machine.advance(now: next)
    }
    #expect(waits == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800].map { .seconds($0) })
}

@Test func aChangeOfPortsDuringARoundIsAskedForAfterIt() {
    let scene = Scene()
    scene.machine.update([tcp], now: second(0))
    scene.know(.pcp, at: 0)
    scene.machine.update([tcp, udp], now: second(1))
    scene.answer([4001], by: .pcp, at: 2)
    scene.answer([4001, 4001], by: .pcp, at: 2)
    #expect(scene.machine.mappings.map(\.target) == [tcp, udp])
}

@Test func whatWasMadeIsRemovedAtTheEnd() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    scene.know(.pcp, .natPMP, at: 0)
    scene.answer([4001, nil], by: .pcp, at: 0)
    scene.answer([5000], by: .natPMP, at: 0)
    scene.machine.removeAll()
    #expect(scene.machine.isBusy)
    let removals = scene.asked()
    #expect(removals.map(\.method) == [.pcp, .natPMP])
    #expect(removals.flatMap(\.requests).allSatisfy { $0.lifetime == 0 })
    #expect(removals.flatMap(\.requests).map(\.externalPort) == [4001, 5000])
    for removal in removals {
        #expect(scene.machine.isBusy)
        scene.machine.answered(removal.method, .success([]), externalAddress: nil, now: second(1))
    }
    #expect(!scene.machine.isBusy)
    #expect(scene.machine.deadline == nil)
}

@Test func theNumberOfPortsIsLimitedAndAnAnswerForAnotherIsIgnored() throws {
    let scene = Scene()
    scene.machine.update((1...100).map { PortMappingTarget(isTCP: true, port: $0) }, now: second(0))
    scene.know(.pcp, at: 0)
    let question = try #require(scene.asked().first)
    #expect(question.requests.count == scene.machine.configuration.maximumTargets)
    let stranger = PortMappingRequest(target: udp, externalPort: 1, lifetime: 1)
    scene.machine.answered(
        .pcp, .success([(stranger, .mapped(externalPort: 1, lifetime: 1))]), externalAddress: outside, now: second(0))
    #expect(scene.machine.mappings.isEmpty)
}

@Test func whatIsMappedWhileTheNodeStopsIsRemovedToo() {
    let scene = Scene()
    scene.machine.update([tcp], now: second(0))
    scene.know(.pcp, at: 0)
    let question = scene.asked()
    scene.machine.removeAll()
    #expect(scene.machine.isBusy)
    scene.machine.answered(
        .pcp, .success([(question[0].requests[0], .mapped(externalPort: 7000, lifetime: 60))]),
        externalAddress: outside, now: second(1))
    #expect(scene.asked().flatMap(\.requests).map(\.externalPort) == [7000])
}

@Test func aNetworkThatIsGoneIsAskedNothing() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    scene.know(.pcp, at: 0)
    scene.answer([4001, 4001], by: .pcp, at: 0)
    scene.machine.forget()
    #expect(scene.machine.mappings.isEmpty && scene.machine.deadline == nil && !scene.machine.isBusy)
    #expect(scene.asked().isEmpty)
    // An answer that comes late changes nothing.
    let request = PortMappingRequest(target: tcp, externalPort: 4001, lifetime: 3600)
    scene.machine.answered(
        .pcp, .success([(request, .mapped(externalPort: 4001, lifetime: 3600))]), externalAddress: outside,
        now: second(1))
    #expect(scene.machine.mappings.isEmpty && scene.asked().isEmpty)
}
