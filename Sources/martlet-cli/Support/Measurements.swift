/// Times in microseconds, and what is said of them.
struct Measurements {
    private(set) var sorted: [Double]

    init(microseconds: [Double]) { sorted = microseconds.sorted() }

    var count: Int { sorted.count }
    var minimum: Double { sorted.first ?? 0 }
    var maximum: Double { sorted.last ?? 0 }

    /// The smallest value that at least `part` of the measurements do not exceed (nearest rank).
    func percentile(_ part: Double) -> Double {
        guard !sorted.isEmpty else { return 0 }
        let rank = Int((part * Double(sorted.count)).rounded(.up))
        return sorted[min(max(rank, 1), sorted.count) - 1]
    }
}
