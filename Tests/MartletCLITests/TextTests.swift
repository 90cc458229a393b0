import MartletCore
import Testing

@testable import martlet_cli

@Suite struct TextTests {
    @Test func numbersAreWrittenAsPeopleReadThem() {
        #expect(Text.fixed(2.5, 2) == "2.50")
        #expect(Text.fixed(0.0049, 2) == "0.00")
        #expect(Text.fixed(-0.001, 2) == "0.00")
        #expect(Text.fixed(-1.25, 1) == "-1.3")
        #expect(Text.bytes(999) == "999 B")
        #expect(Text.bytes(90_868_376) == "90.9 MB")
        #expect(Text.bytes(999_999) == "1.0 MB")
        #expect(Text.bytes(1 << 30) == "1.1 GB")
        #expect(Text.duration(seconds: 185) == "3 min 05 s")
        #expect(Text.duration(seconds: 7600) == "2 h 06 min")
        #expect(Text.roundTrip(microseconds: 42) == "0.042 ms")
    }

    @Test func percentilesAreOfTheNearestRank() {
        let times = Measurements(microseconds: (1...100).reversed().map(Double.init))
        #expect(times.percentile(0.5) == 50)
        #expect(times.percentile(0.99) == 99)
        #expect(times.minimum == 1 && times.maximum == 100)
        #expect(Measurements(microseconds: []).percentile(0.5) == 0)
    }

    @Test func aHistogramSaysWhatTheMeasurementsSayInMemoryThatDoesNotGrow() {
        var random = RandomSource(seed: 4)
        var histogram = LatencyHistogram()
        var halves = (LatencyHistogram(), LatencyHistogram())
        var all: [Double] = []
        for index in 0..<20_000 {
            // From nanoseconds to minutes, as many of each size.
            let time = Duration.nanoseconds(
                Int64.random(in: 0..<(1 << Int64.random(in: 1...38, using: &random)), using: &random))
            histogram.add(time)
            if index % 2 == 0 { halves.0.add(time) } else { halves.1.add(time) }
            all.append(time.microseconds)
        }
        let exact = Measurements(microseconds: all)
        for part in [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1] {
            let error = abs(histogram.percentile(part) - exact.percentile(part))
            #expect(error <= 0.004 * exact.percentile(part))
        }
        #expect(histogram.minimum == exact.minimum && histogram.maximum == exact.maximum)
        halves.0.add(halves.1)
        #expect(halves.0.count == 20_000 && halves.0.percentile(0.5) == histogram.percentile(0.5))
        #expect(LatencyHistogram().percentile(0.5) == 0 && LatencyHistogram().minimum == 0)
        // Beyond the largest bucket only the longest is right.
        histogram.add(.seconds(100_000))
        #expect(histogram.maximum == 1e11)
    }

    @Test func theSpeedFollowsTheLastSeconds() {
        var meter = SpeedMeter()
        func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
        for step in 0...100 { meter.note(step * 1_000_000, at: at(Int64(step) * 100)) }
        #expect(abs(meter.bytesPerSecond - 10_000_000) < 1)
        for step in 1...40 { meter.note(100_000_000 + step * 100_000, at: at(10_000 + Int64(step) * 100)) }
        #expect(abs(meter.bytesPerSecond - 1_000_000) < 1)
    }

    @Test func theBarFitsTheTerminal() {
        let progress = TransferProgress(bytes: 45_000_000, total: 90_000_000)
        let bar = ProgressDisplay.bar(progress, 15_000_000, 3, width: 80)
        #expect(
            bar == "[" + String(repeating: "#", count: 15) + String(repeating: ".", count: 16)
                + "] 50 %  45.0 MB of 90.0 MB  15.0 MB/s  3 s left")
        for width in 1...200 { #expect(ProgressDisplay.bar(progress, 15_000_000, 3, width: width).count < width) }
    }
}
