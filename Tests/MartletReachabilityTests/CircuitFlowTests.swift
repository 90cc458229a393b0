import MartletCore
import Testing

@testable import MartletReachability

private func time(milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

/// A flow behind a reference, so that expectations may change it.
private final class Flow {
    private var flow: CircuitFlow

    init(byteLimit: UInt64? = nil, rate: Int? = nil, queueLimit: Int) {
        flow = CircuitFlow(byteLimit: byteLimit, rate: rate, queueLimit: queueLimit, now: time(milliseconds: 0))
    }

    func received(_ count: Int) -> Int { flow.received(count) }

    func grant(queued: Int, shared: RateLimit? = nil, now: Instant) -> CircuitFlow.Grant {
        flow.grant(queued: queued, shared: shared, now: now)
    }

    var owed: Int { flow.owed }
    var passed: UInt64 { flow.passed }
}

@Suite struct CircuitFlowTests {
    @Test func whatHasGoneOutIsGranted() {
        let flow = Flow(queueLimit: 1000)
        #expect(flow.received(600) == 600)
        #expect(flow.grant(queued: 600, now: time(milliseconds: 0)).byteCount == 600)
        #expect(flow.received(1400) == 1400)
        let grant = flow.grant(queued: 2000, now: time(milliseconds: 0))
        #expect(grant.byteCount == 400)
        #expect(grant.queueMark == 1500)
        #expect(grant.nextAttempt == nil)
        #expect(flow.grant(queued: 1500, now: time(milliseconds: 1)).byteCount == 500)
        let rest = flow.grant(queued: 1000, now: time(milliseconds: 2))
        #expect(rest.byteCount == 500)
        #expect(rest.queueMark == nil)
        #expect(flow.owed == 0)
    }

    @Test func nothingPassesBeyondTheLimit() {
        let flow = Flow(byteLimit: 1000, queueLimit: 1000)
        #expect(flow.received(999) == 999)
        #expect(flow.received(1) == 1)
        #expect(flow.received(1) == 0)
        #expect(flow.passed == 1000)
    }

    @Test func aRateHoldsGrantsBack() throws {
        let flow = Flow(rate: 1_000_000, queueLimit: 1 << 20)
        #expect(flow.received(300_000) == 300_000)
        let first = flow.grant(queued: 0, now: time(milliseconds: 0))
        #expect(first.byteCount == 100_000)
        var now = try #require(first.nextAttempt)
        var granted = first.byteCount
        while flow.owed > 0 {
            let grant = flow.grant(queued: 0, now: now)
            granted += grant.byteCount
            guard let next = grant.nextAttempt else { break }
            #expect(next > now)
            now = next
        }
        #expect(granted == 300_000)
        // A tenth of a second's worth was there at the start.
        #expect(now >= time(milliseconds: 199) && now <= time(milliseconds: 210))
    }

    @Test func circuitsShareARate() {
        let shared = RateLimit(rate: 1_000_000, now: time(milliseconds: 0))
        let flows = (0..<2).map { _ in Flow(queueLimit: 1 << 20) }
        var granted = 0
        for index in flows.indices {
            _ = flows[index].received(10_000_000)
            granted += flows[index].grant(queued: 0, shared: shared, now: time(milliseconds: 0)).byteCount
        }
        for step in 1...100 {
            for index in flows.indices {
                granted +=
                    flows[index].grant(queued: 0, shared: shared, now: time(milliseconds: Int64(step) * 10))
                    .byteCount
            }
        }
        #expect(granted >= 1_099_000 && granted <= 1_100_000)
    }

    @Test func aBucketLosesNoFractions() {
        var bucket = TokenBucket(rate: 3, now: time(milliseconds: 0))
        let first = bucket.take(upTo: .max, now: time(milliseconds: 0))
        #expect(first == bucket.burst)
        var taken = 0
        for step in 1...1000 { taken += bucket.take(upTo: .max, now: time(milliseconds: Int64(step) * 100)) }
        #expect(taken >= 299 && taken <= 300)
        let none = bucket.take(upTo: -1, now: time(milliseconds: 200_000))
        #expect(none == 0)
    }
}
