import MartletCore
import Testing

@testable import MartletReachability

private let start = Instant(nanoseconds: 1_000_000_000)
private let secret = [UInt8](repeating: 5, count: PunchKey.shareByteCount)
private let near = TransportAddress(.v4(IPv4Address(192, 168, 1, 2)), port: 4001)
private let ours = TransportAddress(.v4(IPv4Address(11, 7, 0, 1)), port: 4001)
private let theirs = TransportAddress(.v4(IPv4Address(11, 9, 0, 1)), port: 4001)

/// One side of a punch, fed by hand.
private struct Side {
    let run: PunchRun

    init(isDialer: Bool, _ local: PunchDescription) {
        run = PunchRun(isDialer: isDialer, local: local, servers: [], random: RandomSource(seed: 1), now: start)
        run.start(now: start)
    }

    func hear(_ message: PunchMessage, at now: Instant = start) { run.signalled(Bytes(message.encoded), now: now) }

    func orders() -> [PunchOrder] {
        var orders: [PunchOrder] = []
        while let order = run.nextOrder() { orders.append(order) }
        return orders
    }

    /// What it says to the other side.
    func words() throws -> [PunchMessage] {
        try orders().compactMap { order in
            guard case .signal(let framed) = order else { return nil }
            var reader = PrefixedMessageReader.circuit()
            var bytes = Bytes(framed)
            return try reader.next(from: &bytes).map { try PunchMessage($0) }
        }
    }
}

@Test(arguments: [
    (false, false, true), (true, false, true), (false, true, false), (true, true, true),
])
func bothSidesAgreeOnTheClientOfTCP(isDialerUnsure: Bool, isListenerUnsure: Bool, isDialerClient: Bool) throws {
    let dialing = PunchDescription(tcp: [ours], isTCPUnsure: isDialerUnsure)
    let listening = PunchDescription(tcp: [theirs], isTCPUnsure: isListenerUnsure)
    let dialer = Side(isDialer: true, dialing)
    dialer.hear(.answer(attempt: 1, secret: secret, listening))
    dialer.run.handleTimeout(now: start)
    let listener = Side(isDialer: false, listening)
    listener.hear(.offer(attempt: 1, secret: secret, dialing))
    listener.hear(.go(attempt: 1))
    let ofDialer = dialer.orders()
    let ofListener = listener.orders()
    #expect(ofDialer.contains(.connectTCP(to: theirs, isClient: isDialerClient)))
    #expect(ofListener.contains(.connectTCP(to: ours, isClient: !isDialerClient)))
    // The client takes crossing connections as its own from the moment that it knows of the other side.
    #expect(ofDialer.contains(.expectTCP(from: [theirs])) == isDialerClient)
    #expect(ofListener.contains(.expectTCP(from: [ours])) == !isDialerClient)
}

@Test func connectionsOfThePeerAreExpectedBeforeThePunchBegins() throws {
    let dialer = Side(isDialer: true, PunchDescription(tcp: [ours]))
    dialer.hear(.answer(attempt: 1, secret: secret, PunchDescription(tcp: [theirs])), at: start + .milliseconds(80))
    let orders = dialer.orders()
    #expect(orders.contains(.expectTCP(from: [theirs])))
    #expect(!orders.contains(.connectTCP(to: theirs, isClient: true)))
}

@Test func timeThatTheAnswerTookIsNoPartOfTheRoundTrip() throws {
    let description = PunchDescription(udp: [theirs])
    let dialer = Side(isDialer: true, PunchDescription(udp: [ours]))
    let now = start + .milliseconds(580)
    dialer.hear(.answer(attempt: 1, secret: secret, description, held: .milliseconds(500)), at: now)
    #expect(dialer.run.deadline == now + .milliseconds(40))
    // A peer that says it took longer than there was time cannot put us into the past.
    let other = Side(isDialer: true, PunchDescription(udp: [ours]))
    other.hear(.answer(attempt: 1, secret: secret, description, held: .seconds(4000)), at: now)
    #expect(other.run.deadline == now)
}

@Test func whoIsAskedByOneWithoutUDPLearnsItsOwnTCPPortFirst() throws {
    let listener = Side(isDialer: false, PunchDescription(udp: [ours, near], tcp: [near]))
    listener.hear(.offer(attempt: 1, secret: secret, PunchDescription(tcp: [theirs])))
    #expect(listener.orders() == [.stopConnecting, .learnTCP])
    let now = start + .milliseconds(160)
    listener.run.learnedTCP([ours], now: now)
    let words = try listener.words()
    guard case .answer(1, _, let description, let held)? = words.first, words.count == 1 else {
        Issue.record("said \(words)")
        return
    }
    #expect(description.tcp == [ours, near])
    #expect(held == .milliseconds(160))
}

@Test func whoAsksOneWithoutUDPBeginsAnewWithItsTCPPort() throws {
    let dialer = Side(isDialer: true, PunchDescription(udp: [ours, near], tcp: [near]))
    _ = dialer.orders()
    dialer.hear(.answer(attempt: 1, secret: secret, PunchDescription(tcp: [theirs])))
    #expect(dialer.orders().contains(.learnTCP))
    dialer.run.learnedTCP([ours], now: start)
    let words = try dialer.words()
    guard case .offer(2, _, let description)? = words.first, words.count == 1 else {
        Issue.record("said \(words)")
        return
    }
    #expect(description.tcp == [ours, near])
    // It is asked for once only: when nobody could tell, the punch goes on without.
    let other = Side(isDialer: true, PunchDescription(udp: [ours, near], tcp: [near]))
    other.hear(.answer(attempt: 1, secret: secret, PunchDescription(tcp: [theirs])))
    _ = other.orders()
    other.run.learnedTCP([], now: start)
    other.hear(.answer(attempt: 2, secret: secret, PunchDescription(tcp: [theirs])))
    #expect(!other.orders().contains(.learnTCP))
}

@Test func nobodyIsWaitedForLongAboutTheTCPPort() throws {
    let listener = Side(isDialer: false, PunchDescription(tcp: [near]))
    listener.hear(.offer(attempt: 1, secret: secret, PunchDescription(tcp: [theirs])))
    _ = listener.orders()
    let deadline = try #require(listener.run.deadline)
    #expect(deadline - start <= .seconds(2))
    listener.run.handleTimeout(now: deadline)
    guard case .answer? = try listener.words().first else {
        Issue.record("no answer")
        return
    }
    // Too late for this attempt.
    listener.run.learnedTCP([ours], now: deadline)
    #expect(listener.orders().isEmpty)
}
