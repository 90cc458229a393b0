import MartletCore
import Testing

@Test func instantsAndDurationsAddUp() {
    let start = Instant(nanoseconds: 5)
    #expect(start + .nanoseconds(7) == Instant(nanoseconds: 12))
    #expect(start + .seconds(-1) == Instant(nanoseconds: -999_999_995))
    #expect((start + .milliseconds(250)) - start == .milliseconds(250))
    #expect(start - (start + .seconds(1)) == .seconds(-1))
    #expect(start < start + .nanoseconds(1))
    #expect(Instant.systemNow() <= Instant.systemNow())
}

@Test func timeStaysAtItsEndsInsteadOfOverflowing() {
    let late = Instant.distantFuture
    #expect(late + .seconds(1) == late)
    #expect(Instant(nanoseconds: 0) + .seconds(Int64.max) == late)
    #expect(Instant(nanoseconds: .min) + .seconds(-1) == Instant(nanoseconds: .min))
    #expect((late - Instant(nanoseconds: -1)).nanoseconds == .max)
    #expect((Instant(nanoseconds: .min) - late).nanoseconds == .min)
    #expect(Duration.seconds(Int64.max).nanoseconds == .max)
    #expect(Duration.seconds(Int64.min).nanoseconds == .min)
}

@Test func durationsConvert() {
    #expect(Duration.milliseconds(1500).nanoseconds == 1_500_000_000)
    #expect(Duration.milliseconds(1500).milliseconds == 1500)
    #expect(Duration.milliseconds(1500).microseconds == 1_500_000)
    #expect(Duration.milliseconds(1500).secondsAsDouble == 1.5)
    #expect(Duration.nanoseconds(-1).nanoseconds == -1)
}

@Test func aSeedRepeatsItsSequence() {
    var one = RandomSource(seed: 42)
    var other = RandomSource(seed: 42)
    var third = RandomSource(seed: 43)
    let sequence = (0..<100).map { _ in one.next() }
    #expect(sequence == (0..<100).map { _ in other.next() })
    #expect(sequence != (0..<100).map { _ in third.next() })
    #expect(one.bytes(37) == other.bytes(37))
    var (left, right) = (one.split(), other.split())
    #expect(left.next() == right.next())
    #expect(one.next() == other.next())
    #expect((0..<50).shuffled(using: &left) == (0..<50).shuffled(using: &right))
}

// xoshiro256** after SplitMix64 seeding with 0, computed with a second implementation of the authors' description.
@Test func theSeededGeneratorIsXoshiro256StarStar() {
    var random = RandomSource(seed: 0)
    #expect(
        (0..<4).map { _ in random.next() } == [
            0x99EC_5F36_CB75_F2B4, 0xBF6E_1F78_4956_452A, 0x1A5F_849D_4933_E6E0, 0x6AA5_94F1_262D_2D2C,
        ])
}

@Test func theSystemFillsBuffersOfEverySize() {
    var random = RandomSource.system
    #expect(random.bytes(0) == [])
    for count in [1, 7, 8, 32, 255, 256, 257, 1000] {
        let bytes = random.bytes(count)
        #expect(bytes.count == count)
        // A run of 32 zeros does not happen by chance.
        #expect(count < 32 || bytes.suffix(32).contains { $0 != 0 })
    }
    #expect(random.next() != random.next())
}
