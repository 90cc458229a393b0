import MartletCore
import MartletIdentity
import Testing

@testable import MartletSwarm

private let start = Instant(nanoseconds: 0)

private func address(_ text: String) throws -> Multiaddr { try Multiaddr(text) }

@Test func nearAddressesGoFirstThenTheFamiliesTakeTurns() throws {
    let texts = [
        "/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip4/10.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
    ]
    let sorted = AddressRace.sorted(try texts.map(address)).map(\.description)
    #expect(sorted.prefix(2) == ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"])
    #expect(sorted.contains("/ip6/2001:db8::1/tcp/1"))
}

@Test func theNextAttemptWaitsAQuarterOfASecond() throws {
    var race = AddressRace(
        addresses: [try address("/ip4/127.0.0.1/tcp/1"), try address("/ip4/127.0.0.1/tcp/2")], now: start)
    #expect(race.nextAttempt(now: start) != nil)
    #expect(race.nextAttempt(now: start) == nil)
    #expect(race.deadline == start + .milliseconds(250))
    #expect(race.nextAttempt(now: start + .milliseconds(250)) != nil)
    #expect(race.deadline == nil)
}

@Test func aFailureStartsTheNextAttemptAtOnce() throws {
    var race = AddressRace(
        addresses: [try address("/ip4/127.0.0.1/tcp/1"), try address("/ip4/127.0.0.1/tcp/2")], now: start)
    let attempt = race.nextAttempt(now: start)
    let first = try #require(attempt)
    race.failed(first, reason: "refused", now: start)
    #expect(race.nextAttempt(now: start) != nil)
    #expect(!race.isLost)
}

@Test func aRaceIsLostWhenEveryAddressHasFailed() throws {
    var race = AddressRace(addresses: [try address("/ip4/127.0.0.1/tcp/1")], now: start)
    let attempt = race.nextAttempt(now: start)
    let first = try #require(attempt)
    race.failed(first, reason: "refused", now: start)
    #expect(race.isLost)
    #expect(race.failures.map(\.reason) == ["refused"])
}

@Test func aRaceIsNotLostWhileANameIsLookedUp() throws {
    var race = AddressRace(addresses: [try address("/dns4/node.example/tcp/1")], now: start)
    let attempt = race.nextAttempt(now: start)
    let name = try #require(attempt)
    race.resolvingInsteadOfRunning(name)
    #expect(!race.isLost)
    race.finishedResolving(now: start)
    race.add([try address("/ip4/127.0.0.1/tcp/1")])
    #expect(race.nextAttempt(now: start) == (try address("/ip4/127.0.0.1/tcp/1")))
}

@Test func addressesAreBoundedAndNeverTriedTwice() throws {
    var race = AddressRace(addresses: try (1...200).map { try address("/ip4/127.0.0.1/tcp/\($0)") }, now: start)
    race.add([try address("/ip4/127.0.0.1/tcp/1")])
    var tried: Set<Multiaddr> = []
    while let next = race.nextAttempt(now: start + .seconds(tried.count + 1)) {
        #expect(tried.insert(next).inserted)
        race.failed(next, reason: "refused", now: start + .seconds(tried.count))
    }
    #expect(tried.count == AddressRace.addressLimit)
}

private let relayed = CircuitAddress.remoteAddress(through: KeyPair(seed: [UInt8](repeating: 9, count: 32)).peerID)
private let otherRelayed = CircuitAddress.remoteAddress(through: KeyPair(seed: [UInt8](repeating: 8, count: 32)).peerID)

@Test func aRelayIsTriedAQuarterOfASecondAfterTheFirstAddressHoweverManyThereAre() throws {
    var race = AddressRace(
        addresses: [relayed] + (try (1...20).map { try address("/ip4/198.51.100.\($0)/tcp/1") }), now: start)
    var first: Instant?
    var now = start
    while first == nil, now < start + .seconds(5) {
        while let next = race.nextAttempt(now: now) { if next == relayed { first = now } }
        now = race.deadline ?? now + .seconds(1)
    }
    #expect(first == start + .milliseconds(250))
}

@Test func aRelayIsTriedAtOnceWhenNothingElseIsLeft() throws {
    let direct = try address("/ip4/198.51.100.1/tcp/1")
    var race = AddressRace(addresses: [direct, relayed, otherRelayed], now: start)
    #expect(race.nextAttempt(now: start) == direct)
    #expect(race.nextAttempt(now: start) == nil)
    race.failed(direct, reason: "refused", now: start)
    #expect(race.nextAttempt(now: start) == relayed)
    // The second relay waits for the first.
    #expect(race.nextAttempt(now: start) == nil)
    race.failed(relayed, reason: "NO_RESERVATION", now: start)
    #expect(race.nextAttempt(now: start) == otherRelayed)
    #expect(!race.isLost)
    race.failed(otherRelayed, reason: "NO_RESERVATION", now: start)
    #expect(race.isLost)
}

@Test func relaysAreBounded() throws {
    let relays = (0..<40).map {
        CircuitAddress.remoteAddress(through: KeyPair(seed: [UInt8](repeating: $0, count: 32)).peerID)
    }
    var race = AddressRace(addresses: relays, now: start)
    var tried = 0
    while let next = race.nextAttempt(now: start + .seconds(tried + 1)) {
        tried += 1
        race.failed(next, reason: "refused", now: start + .seconds(tried))
    }
    #expect(tried == AddressRace.relayLimit)
}

private let soon = start + .milliseconds(800)

@Test func aRelayThatFailedForAPassingReasonIsAskedOnceMore() throws {
    var race = AddressRace(addresses: [relayed], now: start)
    #expect(race.nextAttempt(now: start) == relayed)
    race.failed(relayed, reason: "reset", repeatAt: soon, now: start)
    #expect(!race.isLost)
    #expect(race.nextAttempt(now: start) == nil)
    #expect(race.deadline == soon)
    #expect(race.nextAttempt(now: soon) == relayed)
    #expect(race.deadline == nil)
    race.failed(relayed, reason: "CONNECTION_FAILED", repeatAt: soon + .seconds(1), now: soon)
    #expect(race.isLost)
    #expect(race.nextAttempt(now: soon + .seconds(2)) == nil)
    #expect(race.failures == [.init(address: relayed, reason: "CONNECTION_FAILED", tries: 2)])
}

@Test func anotherRelayIsAskedBeforeOneIsAskedAgain() throws {
    var race = AddressRace(addresses: [relayed, otherRelayed], now: start)
    #expect(race.nextAttempt(now: start) == relayed)
    race.failed(relayed, reason: "reset", repeatAt: soon, now: start)
    #expect(race.nextAttempt(now: start) == otherRelayed)
    // As long as that one is to be heard of, nothing is repeated.
    #expect(race.nextAttempt(now: soon) == nil)
    race.failed(otherRelayed, reason: "NO_RESERVATION", now: soon)
    #expect(!race.isLost)
    #expect(race.nextAttempt(now: soon) == relayed)
    race.failed(relayed, reason: "reset", repeatAt: soon, now: soon)
    #expect(race.isLost)
    #expect(race.failures.map(\.address) == [otherRelayed, relayed])
}

@Test func nothingIsRepeatedWhenAnotherRelayHasConnected() throws {
    var race = AddressRace(addresses: [relayed, otherRelayed], now: start)
    #expect(race.nextAttempt(now: start) == relayed)
    race.failed(relayed, reason: "reset", repeatAt: soon, now: start)
    #expect(race.nextAttempt(now: start) == otherRelayed)
    race.finishedRelayed()
    #expect(race.isLost)
    #expect(race.nextAttempt(now: soon) == nil)
}
