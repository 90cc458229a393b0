import MartletCore
import Testing

@testable import MartletReachability

private let tcp = PortMappingTarget(isTCP: true, port: 4001)
private let udp = PortMappingTarget(isTCP: false, port: 4001)
private let outside = IPAddress.v4(IPv4Address(11, 7, 0, 9))

private func second(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

private final class Scene {
    var machine = PortMappings()

    func asked() -> [(method: PortMappingMethod, requests: [PortMappingRequest])] {
        var found: [(PortMappingMethod, [PortMappingRequest])] = []
        while let order = machine.nextOrder() {
            switch order {
            case .ask(let method, let requests): found.append((method, requests))
            }
        }
        return found
    }

    /// Answers the one question that there must be: the ports given for those asked, nil where the gateway refuses.
    func answer(
        _ ports: [UInt16?]?, lifetime: UInt32? = 3600, by method: PortMappingMethod, at seconds: Int64,
        from address: IPAddress = outside
    ) {
        let questions = asked()
        #expect(questions.map(\.method) == [method])
        guard let requests = questions.first?.requests else { return }
        guard let ports else {
            return machine.answered(
                method, .failure(PortMappingFailure("no \(method.rawValue)")), externalAddress: nil,
                now: second(seconds))
        }
        let answers = zip(requests, ports).map { request, port -> (PortMappingRequest, PortMappingAnswer) in
            (request, port.map { .mapped(externalPort: $0, lifetime: lifetime) } ?? .failed("taken"))
        }
        machine.answered(method, .success(answers), externalAddress: address, now: second(seconds))
    }
}

@Test func theWaysAreTriedOneAfterTheOther() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
    scene.answer(nil, by: .pcp, at: 2)
    scene.answer([4001, nil], by: .natPMP, at: 4)
    #expect(scene.machine.mappings.map(\.target) == [tcp])
    scene.answer([5000], by: .upnp, at: 6)
    #expect(scene.asked().isEmpty)
    #expect(scene.machine.mappings.map(\.method) == [.natPMP, .upnp])
    #expect(scene.machine.mappings.map(\.externalPort) == [4001, 5000])
    #expect(scene.machine.mappings.allSatisfy { $0.externalAddress == outside })
    #expect(scene.machine.failures.isEmpty)
}

@Test func aMappingIsRenewedAtHalfItsLifeByTheWayThatWorkedAndAtThePortItHas() throws {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.answer(nil, by: .pcp, at: 0)
    scene.answer([40_000], lifetime: 120, by: .natPMP, at: 0)
    #expect(scene.machine.deadline == second(60))
    scene.machine.advance(now: second(59))
    #expect(scene.asked().isEmpty)
    scene.machine.advance(now: second(60))
    let renewal = try #require(scene.asked().first)
    #expect(renewal.method == .natPMP)
    #expect(renewal.requests.map(\.externalPort) == [40_000])
}

@Test func anUnendingOrLongMappingIsLookedAtEveryFiveMinutesBecauseGatewaysRestart() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.answer([4001], lifetime: nil, by: .pcp, at: 0)
    #expect(scene.machine.deadline == second(300))
    scene.machine.advance(now: second(300))
    scene.answer([4001], lifetime: 86_400, by: .pcp, at: 300)
    #expect(scene.machine.deadline == second(600))
}

@Test func anotherAddressOutsideIsNoticedAtTheRenewal() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.answer([4001], by: .pcp, at: 0)
    scene.machine.refresh(now: second(10))
    let other = IPAddress.v4(IPv4Address(11, 7, 0, 77))
    scene.answer([4001], by: .pcp, at: 10, from: other)
    #expect(scene.machine.mappings.map(\.externalAddress) == [other])
}

@Test func whatNoGatewayRenewsIsGone() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    scene.answer([4001], by: .pcp, at: 0)
    scene.machine.advance(now: second(300))
    scene.answer(nil, by: .pcp, at: 301)
    #expect(scene.machine.mappings.count == 1)
    scene.answer(nil, by: .natPMP, at: 302)
    scene.answer(nil, by: .upnp, at: 303)
    #expect(scene.machine.mappings.isEmpty)
    #expect(scene.machine.failures == ["no pcp", "no nat-pmp", "no upnp"])
}

@Test func withoutAGatewayItIsTriedAgainMoreAndMoreSeldom() {
    let scene = Scene()
    scene.machine.update([udp], now: second(0))
    var now: Int64 = 0
    var waits: [Duration] = []
    for _ in 0..<9 {
        for method in [PortMappingMethod.pcp, .natPMP, .upnp] { scene.answer(nil, by: method, at: now) }
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
    scene.machine.update([tcp, udp], now: second(1))
    scene.answer([4001], by: .pcp, at: 2)
    scene.answer([4001, 4001], by: .pcp, at: 2)
    #expect(scene.machine.mappings.map(\.target) == [tcp, udp])
}

@Test func whatWasMadeIsRemovedAtTheEnd() {
    let scene = Scene()
    scene.machine.update([tcp, udp], now: second(0))
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
    let question = scene.asked()
    scene.machine.removeAll()
    #expect(scene.machine.isBusy)
    scene.machine.answered(
        .pcp, .success([(question[0].requests[0], .mapped(externalPort: 7000, lifetime: 60))]),
        externalAddress: outside, now: second(1))
    #expect(scene.asked().flatMap(\.requests).map(\.externalPort) == [7000])
}
