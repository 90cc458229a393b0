import MartletCore

/// How often things took how long, in memory that does not grow with their number: each power of two of nanoseconds has 128
/// buckets, so that a percentile is right to 0.4 %. The shortest and the longest are kept exactly.
struct LatencyHistogram {
    private static let bits = 7
    private static let perPower = 1 << bits
    /// Whatever takes longer, 18 minutes, counts as so long.
    private static let largest: Int64 = 1 << 40
    private static let bucketCount = (41 - bits) * perPower

    private var counts = [UInt64](repeating: 0, count: bucketCount)
    private(set) var count = 0
    private var shortest = Int64.max
    private var longest: Int64 = 0

    mutating func add(_ duration: Duration) {
        let nanoseconds = max(0, duration.nanoseconds)
        counts[Self.bucket(of: nanoseconds)] += 1
        count += 1
        shortest = min(shortest, nanoseconds)
        longest = max(longest, nanoseconds)
    }

    mutating func add(_ other: LatencyHistogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        shortest = min(shortest, other.shortest)
        longest = max(longest, other.longest)
    }

    /// In microseconds.
    var minimum: Double { count == 0 ? 0 : Double(shortest) / 1000 }
    var maximum: Double { Double(longest) / 1000 }

    /// What at least `part` of them do not exceed (nearest rank), in microseconds.
    func percentile(_ part: Double) -> Double {
        guard count > 0 else { return 0 }
        let rank = UInt64(min(max(Int((part * Double(count)).rounded(.up)), 1), count))
        var seen: UInt64 = 0
        for (index, amount) in counts.enumerated() {
            seen += amount
            if seen >= rank { return min(max(Self.middle(of: index), minimum), maximum) }
        }
        return maximum
    }

    /// The first 128 buckets are a nanosecond wide, the next 128 too, those after them twice as wide each time.
    private static func bucket(of nanoseconds: Int64) -> Int {
        let value = min(nanoseconds, largest)
        guard value >= perPower else { return Int(value) }
        let power = 63 - value.leadingZeroBitCount - bits
        return min((power + 1) * perPower + Int(value >> power) - perPower, bucketCount - 1)
    }

    private static func middle(of bucket: Int) -> Double {
        guard bucket >= 2 * perPower else { return Double(bucket) / 1000 }
        let power = bucket / perPower - 1
        let low = Double((bucket % perPower + perPower) << power)
        return (low + Double(1 << power) / 2) / 1000
    }
}
