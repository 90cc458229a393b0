import MartletCore

/// Ports to try at a host, each once: the likely ones first, then the rest in random order.
struct PortGuesses: Sendable {
    /// Ports that NATs give out; below are those of services.
    static let range: ClosedRange<UInt16> = 1024...65535

    private let likely: Set<UInt16>
    private var first: [UInt16]
    /// Walks over all 16-bit numbers: x → x·a + c visits each once when c is odd and a − 1 a multiple of 4 (Hull and
    /// Dobell, 1962).
    private var next: UInt16
    private let factor: UInt16
    private let increment: UInt16
    private var left = 1 << 16

    init(first: [UInt16], random: inout RandomSource) {
        likely = Set(first)
        // Taken from the end.
        self.first = first.reversed()
        let bits = random.next()
        next = UInt16(truncatingIfNeeded: bits)
        factor = UInt16(truncatingIfNeeded: bits >> 16) & ~3 | 1
        increment = UInt16(truncatingIfNeeded: bits >> 32) | 1
    }

    /// The next port; nil when all were tried.
    mutating func draw() -> UInt16? {
        if let port = first.popLast() { return port }
        while left > 0 {
            left -= 1
            next = next &* factor &+ increment
            if Self.range.contains(next), !likely.contains(next) { return next }
        }
        return nil
    }
}
