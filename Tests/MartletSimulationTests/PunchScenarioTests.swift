import MartletCore
import MartletReachability
import Testing

@testable import MartletSimulation

/// Pairs that no packet can get through directly, whatever is tried: UDP is blocked, or both sides give every destination
/// another port that cannot be predicted and let nobody in who was not asked.
private func isImpossible(_ left: String, _ right: String) -> Bool {
    let pair: Set = [left, right]
    if pair.contains("udp-blocked") { return true }
    let symmetric: Set = ["symmetric", "symmetric-seq", "symmetric-address", "symmetric-fullfilter"]
    guard symmetric.isSuperset(of: pair) else { return false }
    return pair != ["symmetric-seq"] && pair != ["symmetric-fullfilter"]
}

/// A pair that gets through with luck.
private func isChancy(_ left: String, _ right: String) -> Bool {
    Set([left, right]) == ["symmetric-address", "symmetric-fullfilter"]
}

private let names = NATSpecification.kinds.map(\.name)
private let easy = [
    "none", "firewall", "full-cone", "address-restricted", "port-restricted", "port-restricted-open",
    "port-restricted-random",
]

private func scenario(_ left: String, _ right: String, seed: UInt64) throws -> PunchScenario {
    PunchScenario(
        dialer: try #require(NATSpecification.named(left)), listener: try #require(NATSpecification.named(right)),
        seed: seed)
}

@Test(arguments: [1, 2, 3] as [UInt64])
func everyPairOfNATsThatAllowsItBecomesDirect(seed: UInt64) throws {
    for left in names {
        for right in names where !isChancy(left, right) {
            let result = try scenario(left, right, seed: seed).run()
            let report = try #require(result.report)
            #expect(
                result.isDirect == !isImpossible(left, right),
                "\(left) to \(right): \(report.tactic ?? "-"), \(report.stage), \(String(describing: report.outcome))")
        }
    }
}

@Test func pairsOfConesAreDirectInTheTimeOfAFewRoundTrips() throws {
    for left in easy {
        for right in easy {
            let result = try scenario(left, right, seed: 4).run()
            let duration = try #require(result.duration, "\(left) to \(right)")
            #expect(duration <= .milliseconds(250), "\(left) to \(right)")
        }
    }
}

@Test func aSymmetricSideIsFoundWithinSecondsByMostSeeds() throws {
    var durations: [Duration] = []
    for seed in 1...40 as ClosedRange<UInt64> {
        let pair = seed.isMultiple(of: 2) ? ("symmetric", "port-restricted") : ("port-restricted", "symmetric")
        durations.append(try #require(try scenario(pair.0, pair.1, seed: seed).run().duration, "seed \(seed)"))
    }
    durations.sort()
    #expect(durations[20] < .seconds(1))
    #expect(durations[39] < .seconds(20))
}

@Test func lossDelaysAPunchButDoesNotStopIt() throws {
    for seed in 1...20 as ClosedRange<UInt64> {
        var scenario = try scenario("port-restricted", "port-restricted", seed: seed)
        scenario.loss = 0.2
        #expect(scenario.run().isDirect, "seed \(seed)")
    }
}

@Test func neighboursBehindOneNATFindEachOtherInside() throws {
    var scenario = try scenario("symmetric", "symmetric", seed: 1)
    scenario.sharesHome = true
    let result = scenario.run()
    #expect(result.isDirect)
    guard case .connected(let address)? = result.report?.outcome else {
        Issue.record("no connection: \(String(describing: result.report))")
        return
    }
    #expect(address.isPrivate)
}

@Test func homesBehindOneCarrierNeedItsHairpin() throws {
    var scenario = try scenario("port-restricted", "port-restricted", seed: 1)
    scenario.carrier = NATSpecification.named("port-restricted")
    scenario.sharesCarrier = true
    #expect(!scenario.run().isDirect)
    scenario.carrier?.hairpins = true
    #expect(scenario.run().isDirect)
}

@Test func homesBehindTwoCarriersBecomeDirect() throws {
    var scenario = try scenario("port-restricted", "full-cone", seed: 1)
    scenario.carrier = NATSpecification.named("port-restricted")
    #expect(scenario.run().isDirect)
}

@Test func aPunchOfOneSeedRunsTheSameEveryTime() throws {
    let scenario = try scenario("symmetric", "port-restricted-random", seed: 9)
    #expect(scenario.run() == scenario.run())
}
