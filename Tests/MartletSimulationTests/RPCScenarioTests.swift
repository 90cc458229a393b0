import MartletCore
import MartletSimulation
import Testing

@Test(arguments: 0..<20 as Range<UInt64>)
func everyCallEndsOnceAndRunsAtMostOnceOverAFailingNetwork(seed: UInt64) {
    let result = RPCScenario(seed: seed).run()
    #expect(result.violations == [])
    #expect(result.succeeded > 0)
    #expect(result.faults > 0)
}

@Test func lossAndNarrowLinksChangeNothing() {
    var scenario = RPCScenario(seed: 99)
    scenario.conditions.loss = 0.02
    scenario.conditions.bandwidth = 2_000_000
    #expect(scenario.run().violations == [])
}

@Test func withoutFaultsEveryCallThatMayFailsAsItShould() {
    var scenario = RPCScenario(seed: 5)
    scenario.faultInterval = .seconds(1_000_000)
    let result = scenario.run()
    #expect(result.violations == [])
    #expect(result.sessionsLost == 0)
}

@Test func theSameSeedGivesTheSameCalls() {
    let results = (0..<2).map { _ in RPCScenario(seed: 3).run() }
    #expect(results[0].succeeded == results[1].succeeded)
    #expect(results[0].maybeExecuted == results[1].maybeExecuted)
    #expect(results[0].sessionsLost == results[1].sessionsLost)
    #expect(results[0].moves == results[1].moves)
}

@Test func callsMoveWhereOneConnectionGivesWayToAnother() {
    var scenario = RPCScenario(seed: 0)
    scenario.faultInterval = .milliseconds(300)
    let results = (0..<4 as Range<UInt64>).map { seed in
        scenario.seed = seed
        return scenario.run()
    }
    #expect(results.flatMap(\.violations) == [])
    #expect(results.contains { $0.moves > 0 })
}
