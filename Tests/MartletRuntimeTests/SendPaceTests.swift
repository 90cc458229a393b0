import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct SendPaceTests {
    private let start = Instant(nanoseconds: 1_000)

    /// Sends blocks over a path of so many bytes a second, whose buffers are always full.
    private func run(_ pace: inout SendPace, blocks: Int, bytesPerSecond: Int) {
        var now = start
        for _ in 0..<blocks {
            pace.blocked(now: now)
            now = now + .nanoseconds(Int64(pace.blockSize) * 1_000_000_000 / Int64(bytesPerSecond))
            _ = pace.finished(pace.blockSize, now: now)
        }
    }

    @Test func aFastPathKeepsWholeBlocks() {
        var pace = SendPace(largest: 512 * 1024)
        run(&pace, blocks: 50, bytesPerSecond: 1_000_000_000)
        #expect(pace.isUnlimited)
        #expect(pace.blockSize == 512 * 1024)
    }

    @Test func aSlowPathGetsBlocksOfSomeMilliseconds() {
        var pace = SendPace(largest: 512 * 1024)
        run(&pace, blocks: 50, bytesPerSecond: 110_000_000)
        #expect(pace.blockSize == 256 * 1024)
        run(&pace, blocks: 50, bytesPerSecond: 1_000_000)
        #expect(pace.blockSize == SendPace.smallest)
        #expect(!pace.isUnlimited)
    }

    @Test func aPathThatRecoversGetsWholeBlocksAgain() {
        var pace = SendPace(largest: 512 * 1024)
        run(&pace, blocks: 50, bytesPerSecond: 1_000_000)
        run(&pace, blocks: 50, bytesPerSecond: 2_000_000_000)
        #expect(pace.isUnlimited)
    }

    @Test func blocksThatNeverWaitGrow() {
        var pace = SendPace(largest: 512 * 1024)
        run(&pace, blocks: 50, bytesPerSecond: 1_000_000)
        let small = pace.finished(128, now: start)
        #expect(!small)
        let large = pace.finished(pace.blockSize, now: start)
        #expect(large)
        for _ in 0..<5 { _ = pace.finished(pace.blockSize, now: start) }
        #expect(pace.isUnlimited)
        let last = pace.finished(pace.blockSize, now: start)
        #expect(!last)
    }

    @Test func theTimeCountsFromTheFirstWait() {
        var pace = SendPace(largest: 512 * 1024)
        pace.blocked(now: start)
        pace.blocked(now: start + .milliseconds(3))
        let changed = pace.finished(pace.blockSize, now: start + .milliseconds(4))
        #expect(changed)
        #expect(pace.blockSize == 256 * 1024)
    }
}
