import MartletCore
import MartletIdentity
import MartletSwarm
import Testing

@testable import MartletReachability

private let start = Instant(nanoseconds: 1_000_000_000)
private let secret = [UInt8](repeating: 5, count: PunchKey.shareByteCount)

private func at(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, _ port: UInt16 = 4001) -> TransportAddress {
    TransportAddress(.v4(IPv4Address(a, b, c, d)), port: port)
}

private func listener(_ local: PunchDescription = PunchDescription(udp: [at(11, 7, 0, 1)])) -> PunchRun {
    PunchRun(isDialer: false, local: local, servers: [], random: RandomSource(seed: 1), now: start)
}

private func orders(of machine: any PunchMachine) -> [PunchOrder] {
    var orders: [PunchOrder] = []
    while let order = machine.nextOrder() { orders.append(order) }
    return orders
}

/// Where a machine sends until it is over.
private func destinations(of machine: any PunchMachine) -> [TransportAddress] {
    var found: [TransportAddress] = []
    for _ in 0..<10_000 {
        for order in orders(of: machine) {
            if case .send(_, _, let address) = order { found.append(address) }
            if case .openSockets(let count) = order { machine.socketsOpened(count, now: machine.deadline ?? start) }
        }
        guard let deadline = machine.deadline else { break }
        machine.handleTimeout(now: deadline)
    }
    return found
}

private func outcome(_ orders: [PunchOrder]) -> PunchOutcome? {
    for case .finished(let outcome) in orders { return outcome }
    return nil
}

private func say(_ messages: [PunchMessage], to machine: any PunchMachine) {
    for message in messages { machine.signalled(Bytes(message.encoded), now: start) }
}

@Test func nothingIsSentToAddressesThatAreNobodysToGive() {
    let run = listener()
    let remote = PunchDescription(
        udp: [
            at(127, 0, 0, 1), at(224, 0, 0, 1), at(0, 0, 0, 0), at(255, 255, 255, 255), at(169, 254, 1, 1),
            at(10, 0, 0, 7), at(192, 168, 1, 1), at(11, 8, 0, 1, 0),
        ])
    say([.offer(attempt: 1, secret: secret, remote), .go(attempt: 1)], to: run)
    #expect(destinations(of: run).isEmpty)
}

@Test func neighboursAreTriedOnlyByNeighbours() {
    let remote = PunchDescription(udp: [at(192, 168, 1, 9), at(11, 9, 0, 1)])
    let near = listener(PunchDescription(udp: [at(11, 7, 0, 1), at(192, 168, 1, 3)]))
    say([.offer(attempt: 1, secret: secret, remote), .go(attempt: 1)], to: near)
    #expect(Set(destinations(of: near)) == [at(192, 168, 1, 9), at(11, 9, 0, 1)])
    let far = listener(PunchDescription(udp: [at(11, 7, 0, 1), at(192, 168, 2, 3)]))
    say([.offer(attempt: 1, secret: secret, remote), .go(attempt: 1)], to: far)
    #expect(Set(destinations(of: far)) == [at(11, 9, 0, 1)])
    let sameNAT = listener(PunchDescription(udp: [at(11, 9, 0, 1, 5), at(192, 168, 2, 3)]))
    say([.offer(attempt: 1, secret: secret, remote), .go(attempt: 1)], to: sameNAT)
    #expect(Set(destinations(of: sameNAT)).contains(at(192, 168, 1, 9)))
}

@Test func guessesStayWithinTheirLimitAndAtOneHost() {
    let run = listener()
    let remote = PunchDescription(udp: [at(11, 9, 0, 1)], nat: NATKind(mapping: .addressAndPortDependent))
    say([.offer(attempt: 1, secret: secret, remote), .go(attempt: 1)], to: run)
    let found = destinations(of: run)
    let limits = PunchLimits()
    #expect(found.count > 3000)
    #expect(found.count <= limits.maximumPackets)
    #expect(Set(found.map(\.ip)) == [at(11, 9, 0, 1).ip])
    #expect(Set(found).count <= limits.maximumGuesses + 1)
}

@Test func messagesOutOfTurnEndThePunch() {
    let description = PunchDescription(udp: [at(11, 9, 0, 1)])
    let wrong: [[PunchMessage]] = [
        [.go(attempt: 1)], [.answer(attempt: 1, secret: secret, description)],
        [.offer(attempt: 2, secret: secret, description)],
        [.offer(attempt: 1, secret: secret, description), .go(attempt: 2)],
        [.offer(attempt: 1, secret: secret, description), .offer(attempt: 1, secret: secret, description)],
    ]
    for messages in wrong {
        let run = listener()
        say(messages, to: run)
        guard case .failed? = outcome(orders(of: run)) else {
            Issue.record("goes on after \(messages)")
            continue
        }
    }
}

@Test func aMessageBeyondTheLimitEndsThePunch() {
    let run = listener()
    run.signalled(Bytes(Varint.encode(UInt64(PunchLimits.messageByteCount) + 1)), now: start)
    guard case .failed? = outcome(orders(of: run)) else {
        Issue.record("goes on")
        return
    }
}

@Test func aSilentPeerIsGivenUp() {
    let run = PunchRun(
        isDialer: true, local: PunchDescription(), servers: [], random: RandomSource(seed: 1), now: start)
    run.start(now: start)
    #expect(outcome(orders(of: run)) == nil)
    run.handleTimeout(now: start + PunchLimits().signalTimeout)
    guard case .failed? = outcome(orders(of: run)) else {
        Issue.record("waits for ever")
        return
    }
    #expect(run.deadline == nil)
}

@Test func dcutrAgreesOnTheMomentAndTheRoles() throws {
    let address = at(11, 9, 0, 1)
    let initiator = DCUtRRun(
        isInitiator: true, addresses: [at(11, 7, 0, 1).quicMultiaddr], random: RandomSource(seed: 1), now: start)
    initiator.start(now: start)
    #expect(orders(of: initiator) == [.signal(DCUtRMessage.connect([at(11, 7, 0, 1).quicMultiaddr]).encoded)])
    let roundTrip = Duration.milliseconds(80)
    let answer = DCUtRMessage.connect([address.quicMultiaddr, address.tcpMultiaddr])
    initiator.signalled(Bytes(answer.encoded), now: start + roundTrip)
    #expect(orders(of: initiator) == [.signal(DCUtRMessage.sync.encoded)])
    #expect(initiator.deadline == start + roundTrip * 3 / 2)
    initiator.handleTimeout(now: start + roundTrip * 3 / 2)
    let begun = orders(of: initiator)
    #expect(begun.first == .connectTCP(to: address, isClient: false))
    guard case .send(let packet, .main, address)? = begun.last else {
        Issue.record("no packet: \(begun)")
        return
    }
    #expect(packet[0] & 0x40 == 0)
    #expect(Punch.session(of: packet) == nil)
}

@Test func dcutrAnswersAndDials() {
    let address = at(11, 9, 0, 1)
    let run = DCUtRRun(isInitiator: false, addresses: [], random: RandomSource(seed: 1), now: start)
    run.start(now: start)
    run.signalled(Bytes(DCUtRMessage.connect([address.quicMultiaddr]).encoded), now: start)
    #expect(orders(of: run) == [.signal(DCUtRMessage.connect([]).encoded)])
    run.signalled(Bytes(DCUtRMessage.sync.encoded), now: start)
    #expect(orders(of: run) == [.connectQUIC(from: .main, to: address)])
    run.connected(at: address.quicMultiaddr, now: start)
    #expect(outcome(orders(of: run)) == .connected(address.quicMultiaddr))
}

@Test func whoIsReachedOverTheRelayDialsToo() throws {
    let address = at(11, 9, 0, 1)
    let initiator = DCUtRRun(isInitiator: true, addresses: [], random: RandomSource(seed: 1), now: start)
    initiator.start(now: start)
    initiator.signalled(Bytes(DCUtRMessage.connect([address.quicMultiaddr]).encoded), now: start)
    let dial = PunchOrder.connectQUIC(from: .main, to: address)
    var dialedAt: [Instant] = []
    var ended: Instant?
    while let now = initiator.deadline {
        initiator.handleTimeout(now: now)
        let orders = orders(of: initiator)
        dialedAt += orders.filter { $0 == dial }.map { _ in now }
        if case .failed? = outcome(orders) { ended = now }
    }
    #expect(dialedAt.count == 1)
    // A peer that has the roles right is faster than that.
    let first = try #require(dialedAt.first)
    #expect(first - start >= .milliseconds(300))
    let end = try #require(ended)
    #expect(end - first >= .seconds(1))
}

@Test func theSecondAttemptSwapsTheRoles() {
    let address = at(11, 9, 0, 1)
    let connect = DCUtRMessage.connect([address.tcpMultiaddr])
    for attempt in 1...3 {
        let initiator = DCUtRRun(
            isInitiator: true, attempt: attempt, addresses: [], random: RandomSource(seed: 1), now: start)
        initiator.start(now: start)
        initiator.signalled(Bytes(connect.encoded), now: start)
        initiator.handleTimeout(now: start)
        let other = DCUtRRun(
            isInitiator: false, attempt: attempt, addresses: [], random: RandomSource(seed: 1), now: start)
        other.start(now: start)
        other.signalled(Bytes(connect.encoded), now: start)
        other.signalled(Bytes(DCUtRMessage.sync.encoded), now: start)
        let isSwapped = attempt == 2
        #expect(orders(of: initiator).contains(.connectTCP(to: address, isClient: isSwapped)))
        #expect(orders(of: other).contains(.connectTCP(to: address, isClient: !isSwapped)))
    }
}

@Test func listeningPortsAreTriedAtHostsThatThePeerNames() {
    let run = DCUtRRun(
        isInitiator: false, addresses: [], listeningPorts: [4001, 4002, 4003], random: RandomSource(seed: 1), now: start
    )
    run.start(now: start)
    let named = at(11, 9, 0, 1, 54_534)
    let connect = DCUtRMessage.connect([named.tcpMultiaddr, at(192, 168, 1, 9).tcpMultiaddr])
    run.signalled(Bytes(connect.encoded), now: start)
    run.signalled(Bytes(DCUtRMessage.sync.encoded), now: start)
    let targets = orders(of: run).compactMap { order in
        if case .connectTCP(let target, true) = order { target } else { nil }
    }
    #expect(targets == [named, at(11, 9, 0, 1, 4001), at(11, 9, 0, 1, 4002)])
}

@Test func dcutrTakesPublicAddressesOnlyAndFewOfThem() {
    let run = DCUtRRun(isInitiator: false, addresses: [], random: RandomSource(seed: 1), now: start)
    run.start(now: start)
    let bad = [at(10, 0, 0, 1), at(127, 0, 0, 1), at(224, 0, 0, 1)].map(\.quicMultiaddr)
    let good = (1...30).map { at(11, 9, 0, $0).quicMultiaddr }
    run.signalled(Bytes(DCUtRMessage.connect(bad + good).encoded), now: start)
    run.signalled(Bytes(DCUtRMessage.sync.encoded), now: start)
    let dialed = orders(of: run).compactMap { order in
        if case .connectQUIC(_, let address) = order { address } else { nil }
    }
    #expect(dialed.count == PunchLimits().maximumCandidates)
    for address in dialed { #expect(address.isPublic) }
}

@Test func packetsToOneHostAndOfOneSecondAreLimited() {
    var limits = PunchLimits()
    limits.packetsPerSecond = 10
    limits.packetsPerHost = 15
    limits.reservedPerHost = 0
    var rate = PunchRateLimiter(limits: limits)
    let host = at(11, 9, 0, 1).ip
    func admitted(_ host: IPAddress, _ now: Instant) -> Int {
        var count = 0
        for _ in 0..<20 where rate.admits(host, now: now) { count += 1 }
        return count
    }
    #expect(admitted(host, start) == 10)
    #expect(admitted(host, start + .seconds(1)) == 5)
    #expect(admitted(at(11, 9, 0, 2).ip, start + .seconds(1)) == 5)
    #expect(admitted(host, start + .seconds(301)) == 10)
}

@Test func guessesLeaveSomePacketsToPlainOnes() {
    var limits = PunchLimits()
    limits.packetsPerHost = 15
    limits.reservedPerHost = 4
    var rate = PunchRateLimiter(limits: limits)
    let host = at(11, 9, 0, 1).ip
    var counts = (guesses: 0, plain: 0)
    for _ in 0..<20 where rate.admits(host, isGuess: true, now: start) { counts.guesses += 1 }
    for _ in 0..<20 where rate.admits(host, now: start) { counts.plain += 1 }
    #expect(counts == (11, 4))
}

@Test func hostsBeyondTheLimitGetNothing() {
    var limits = PunchLimits()
    limits.packetsPerSecond = 10_000
    var rate = PunchRateLimiter(limits: limits)
    let hosts = (0...UInt32(PunchRateLimiter.hostLimit)).map { IPAddress.v4(IPv4Address(rawValue: 0x0B00_0000 + $0)) }
    var count = 0
    for host in hosts where rate.admits(host, now: start) { count += 1 }
    #expect(count == PunchRateLimiter.hostLimit)
}

@Test func failedPunchesAreTriedAgainLaterEachTime() {
    var random = RandomSource(seed: 1)
    let peer = KeyPair(random: &random).peerID
    let connection = ConnectionID(rawValue: 1)
    var schedule = PunchSchedule(limits: PunchLimits())
    var now = start
    for seconds in [5, 15, 30, 60, 120, 240, 480, 600, 600] {
        schedule.began(peer, over: connection)
        schedule.failed(peer, now: now)
        #expect(schedule.deadline == now + .seconds(seconds))
        now = now + .seconds(seconds)
        let due = schedule.nextDue(now: now)
        #expect(due?.0 == peer)
    }
    schedule.failed(peer, now: now)
    schedule.networkChanged(now: now)
    let dueAtOnce = schedule.nextDue(now: now)
    #expect(dueAtOnce?.0 == peer)
    schedule.failed(peer, now: now)
    schedule.closed(connection)
    #expect(schedule.deadline == nil)
    let limit = PunchLimits().maximumInboundPunches
    var count = 0
    for _ in 0..<100 where schedule.admits(peer, now: now) { count += 1 }
    #expect(count == limit)
    let isAdmittedLater = schedule.admits(peer, now: now + .seconds(600))
    #expect(isAdmittedLater)
}
