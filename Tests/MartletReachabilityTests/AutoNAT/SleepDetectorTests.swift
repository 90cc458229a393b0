import MartletCore
import Testing

@testable import MartletReachability

@Suite struct SleepDetectorTests {
    private var detector = SleepDetector(interval: .seconds(5))

    /// Looks at these seconds of the monotonic clock and of that on the wall.
    private mutating func look(_ now: Int64, _ wall: Int64) -> Bool {
        detector.look(
            now: Instant(nanoseconds: now * 1_000_000_000),
            wallTime: WallTime(nanosecondsSince1970: (1_700_000_000 + wall) * 1_000_000_000))
    }

    @Test mutating func aMachineThatIsAwakeHasNotSlept() {
        let looks = [look(0, 0), look(5, 5), look(18, 18), look(23, 10)]
        #expect(looks == [false, false, false, false])
    }

    @Test mutating func aMachineWhoseMonotonicClockStoodStillHasSlept() {
        let looks = [look(0, 0), look(5, 65), look(10, 70)]
        #expect(looks == [false, true, false])
    }

    @Test mutating func aProcessThatWasStoppedHasSlept() {
        let looks = [look(0, 0), look(60, 60), look(65, 65)]
        #expect(looks == [false, true, false])
    }
}
