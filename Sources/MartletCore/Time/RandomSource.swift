#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where randomness comes from: the operating system, or a seed when a run must be repeatable.
///
/// Machines take it as an argument. The seeded form is xoshiro256** started by SplitMix64 (Blackman and Vigna, 2018):
/// fast and repeatable, and never used for keys outside a simulation.
public struct RandomSource: RandomNumberGenerator, Sendable {
    private enum State: Sendable {
        case system
        case seeded(UInt64, UInt64, UInt64, UInt64)
    }

    private var state: State

    /// The operating system's generator.
    public static var system: RandomSource { RandomSource(state: .system) }

    private init(state: State) { self.state = state }

    /// A repeatable sequence.
    public init(seed: UInt64) {
        var split = seed
        func next() -> UInt64 {
            split &+= 0x9E37_79B9_7F4A_7C15
            var z = split
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
        state = .seeded(next(), next(), next(), next())
    }

    public mutating func next() -> UInt64 {
        switch state {
        case .system:
            var generator = SystemRandomNumberGenerator()
            return generator.next()
        case .seeded(let s0, var s1, var s2, var s3):
            let result = rotate(s1 &* 5, 7) &* 9
            let t = s1 << 17
            s2 ^= s0
            s3 ^= s1
            s1 ^= s2
            let n0 = s0 ^ s3
            s2 ^= t
            s3 = rotate(s3, 45)
            state = .seeded(n0, s1, s2, s3)
            return result
        }
    }

    /// Fills `buffer` with random bytes.
    public mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        switch state {
        case .system: fillFromSystem(buffer)
        case .seeded:
            var offset = 0
            while offset < buffer.count {
                let end = min(offset + 8, buffer.count)
                withUnsafeBytes(of: next().littleEndian) { word in
                    UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<end])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: word[..<(end - offset)]))
                }
                offset = end
            }
        }
    }

    /// `count` random bytes.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        result.withUnsafeMutableBytes { fill($0) }
        return result
    }

    /// A generator of its own, repeatable when this one is.
    public mutating func split() -> RandomSource {
        switch state {
        case .system: .system
        case .seeded: RandomSource(seed: next())
        }
    }
}

private func rotate(_ value: UInt64, _ by: UInt64) -> UInt64 { (value << by) | (value >> (64 - by)) }

/// One call for up to 256 bytes, where the standard library's generator makes one for every 8.
private func fillFromSystem(_ buffer: UnsafeMutableRawBufferPointer) {
    var offset = 0
    while offset < buffer.count {
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<min(offset + 256, buffer.count)])
        // It can fail only where the system has no generator at all; going on without would give keys away.
        precondition(getentropy(part.baseAddress!, part.count) == 0, "the system gives no randomness")
        offset += part.count
    }
}
