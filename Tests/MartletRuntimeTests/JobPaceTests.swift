import MartletCore
import Testing

@testable import MartletRuntime

/// A loop that gets so many jobs at once, again and again.
private struct Rounds {
    var pace = JobPace()
    var now = Instant(nanoseconds: 0)

    /// Runs `count` jobs of a microsecond and then waits for so long; returns how many ran between two polls.
    mutating func run(_ count: Int, waiting wait: Duration) -> [Int] {
        var batches: [Int] = []
        pace.polled(jobCount: count, wait: nil)
        var left = count
        while left > 0 {
            var batch = 0
            while left > 0, !pace.isDue {
                pace.runsJob()
                batch += 1
                left -= 1
                now = now + .microseconds(1)
            }
            batches.append(batch)
            pace.polls()
            if left > 0 { pace.polled(jobCount: left, wait: nil) }
        }
        let end = now + wait
        pace.polled(jobCount: 0, wait: wait > .zero ? .init(from: now, to: end) : nil)
        now = end
        return batches
    }
}

@Suite struct JobPaceTests {
    @Test(arguments: [32, 40, 64])
    func whatComesAtOnceIsDoneInHalvesWhenTheLoopIsIdleOtherwise(count: Int) {
        var rounds = Rounds()
        for _ in 0...JobPace.longWaitLimit { _ = rounds.run(count, waiting: .microseconds(2 * Int64(count))) }
        #expect(rounds.run(count, waiting: .zero) == [count / 2, count / 2])
    }

    @Test func aBusyLoopPollsSeldom() {
        var rounds = Rounds()
        _ = rounds.run(64, waiting: .zero)
        // A short wait now and then is no reason to do less at a time.
        for _ in 0..<10 { #expect(rounds.run(32, waiting: .microseconds(20)) == [32]) }
    }

    @Test func oneLongWaitIsAnAccident() {
        var rounds = Rounds()
        _ = rounds.run(64, waiting: .zero)
        for _ in 0..<20 {
            for _ in 0..<JobPace.longWaitLimit - 1 { _ = rounds.run(32, waiting: .milliseconds(1)) }
            #expect(rounds.run(32, waiting: .microseconds(3)) == [32])
        }
    }

    @Test func howManyRunBetweenPollsHasBounds() {
        var rounds = Rounds()
        #expect(rounds.run(1000, waiting: .zero).max() == JobPace.largest)
        for count in [512, 64, 32, 32, 32, 32, 32] { _ = rounds.run(count, waiting: .seconds(1)) }
        #expect(rounds.pace.size == JobPace.smallest)
        _ = rounds.run(1, waiting: .seconds(1))
        #expect(rounds.pace.size == JobPace.smallest)
    }
}
