import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct TimerTests {
    @Test func timersFireInOrderAndNeverEarly() async throws {
        try await withGroup { group in
            let loop = group.next()
            let fired = Confined<[Int]>([])
            let done = Latch()
            try await loop.perform {
                var random = RandomSource(seed: 4)
                let base = loop.now
                let delays = (0..<200).map { _ in Int64.random(in: 0..<20_000_000, using: &random) }
                let ranks = delays.enumerated().sorted { $0.element < $1.element }.map(\.offset)
                for (index, delay) in delays.enumerated() {
                    let due = base + .nanoseconds(delay)
                    LoopTimer(loop: loop) {
                        #expect(loop.now >= due)
                        fired.value.append(index)
                        if fired.value.count == 200 {
                            #expect(fired.value == ranks)
                            done.signal()
                        }
                    }.schedule(at: due)
                }
            }
            await done.wait()
        }
    }

    @Test func aTimerMovedLaterFiresOnceAndLater() async throws {
        try await withGroup { group in
            let loop = group.next()
            let done = Latch()
            let count = Confined(0)
            try await loop.perform {
                let later = loop.now + .milliseconds(8)
                let timer = LoopTimer(loop: loop) {
                    count.value += 1
                    #expect(loop.now >= later)
                }
                timer.schedule(at: loop.now + .milliseconds(2))
                timer.schedule(at: later)
                #expect(timer.deadline == later)
                LoopTimer(loop: loop) { done.signal() }.schedule(at: loop.now + .milliseconds(12))
            }
            await done.wait()
            #expect(count.value == 1)
        }
    }

    @Test func aTimerMovedEarlierFiresEarlier() async throws {
        try await withGroup { group in
            let loop = group.next()
            let done = Latch()
            try await loop.perform {
                let timer = LoopTimer(loop: loop) { done.signal() }
                timer.schedule(at: loop.now + .seconds(3_600))
                timer.schedule(at: loop.now + .milliseconds(1))
            }
            await done.wait()
        }
    }

    @Test func aCancelledTimerIsSilentAndForgotten() async throws {
        try await withGroup { group in
            let loop = group.next()
            let done = Latch()
            let baseline = try await loop.perform { loop.timers.count }
            try await loop.perform {
                for _ in 0..<100 {
                    let timer = LoopTimer(loop: loop) { Issue.record("a cancelled timer fired") }
                    timer.schedule(at: loop.now + .milliseconds(1))
                    timer.cancel()
                    #expect(timer.deadline == nil)
                }
                #expect(loop.timers.count == baseline)
                LoopTimer(loop: loop) { done.signal() }.schedule(at: loop.now + .milliseconds(3))
            }
            await done.wait()
        }
    }

    @Test func aTimerMayScheduleItselfAndOthersWhileFiring() async throws {
        try await withGroup { group in
            let loop = group.next()
            let done = Latch()
            let count = Confined(0)
            try await loop.perform {
                let victim = LoopTimer(loop: loop) { Issue.record("cancelled by an earlier one") }
                let timer = Confined<LoopTimer?>(nil)
                timer.value = LoopTimer(loop: loop) {
                    victim.cancel()
                    count.value += 1
                    // In the past: fires again, but in a later turn.
                    if count.value < 50 { timer.value?.schedule(at: loop.now) } else { done.signal() }
                }
                timer.value?.schedule(at: loop.now)
                victim.schedule(at: loop.now + .nanoseconds(1))
            }
            await done.wait()
        }
    }

    @Test func theDistantFutureNeverComesAndCostsNothing() async throws {
        try await withGroup { group in
            let loop = group.next()
            try await loop.perform {
                let timer = LoopTimer(loop: loop) { Issue.record("the end of time") }
                timer.schedule(at: .distantFuture)
                timer.schedule(at: .distantFuture + .seconds(1))
            }
            try await loop.perform {}
        }
    }
}
