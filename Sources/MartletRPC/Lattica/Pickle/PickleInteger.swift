/// A whole number of any size, as Python has them: little-endian bytes in two's complement, as few as it takes.
public struct PickleInteger: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    /// - Parameter littleEndian: two's complement, of any length; none is zero.
    public init(littleEndian: some Sequence<UInt8>) {
        var bytes = Array(littleEndian)
        // The last byte may go when the one before it has the same sign.
        while let last = bytes.last, last == 0 || last == 0xFF {
            let signBefore: UInt8 = bytes.count > 1 ? bytes[bytes.count - 2] & 0x80 : 0
            guard signBefore == last & 0x80 else { break }
            bytes.removeLast()
        }
        self.bytes = bytes
    }

    /// The number in decimal, with a sign or not; nil when the text is something else.
    public init?(decimal text: some StringProtocol) {
        var digits = Substring(text).utf8
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative || digits.first == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var magnitude: [UInt8] = []
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            var carry = UInt16(digit - UInt8(ascii: "0"))
            for index in magnitude.indices {
                carry += UInt16(magnitude[index]) * 10
                magnitude[index] = UInt8(truncatingIfNeeded: carry)
                carry >>= 8
            }
            if carry > 0 { magnitude.append(UInt8(carry)) }
        }
        magnitude.append(0)
        if isNegative { Self.negate(&magnitude) }
        self.init(littleEndian: magnitude)
    }

    public init(_ value: some FixedWidthInteger) {
        var bytes: [UInt8] = []
        for index in 0..<value.bitWidth / 8 { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
        // Without a sign bit of its own an unsigned number must not look negative.
        if value >= 0 { bytes.append(0) }
        self.init(littleEndian: bytes)
    }

    private static func negate(_ bytes: inout [UInt8]) {
        var carry = true
        for index in bytes.indices {
            bytes[index] = ~bytes[index]
            if carry { (bytes[index], carry) = bytes[index].addingReportingOverflow(1) }
        }
    }

    public var isNegative: Bool { (bytes.last ?? 0) & 0x80 != 0 }

    /// The number as an `Int`, if it fits.
    public var int: Int? {
        guard bytes.count <= 8 else { return nil }
        return Int(truncatingIfNeeded: bits)
    }

    /// The number as a `UInt64`, if it fits.
    public var uint64: UInt64? {
        guard !isNegative, bytes.count <= 8 || (bytes.count == 9 && bytes[8] == 0) else { return nil }
        return bits
    }

    /// The lowest 64 bits.
    private var bits: UInt64 {
        var bits: UInt64 = isNegative ? .max : 0
        for (index, byte) in bytes.prefix(8).enumerated() {
            bits &= ~(0xFF << (8 * UInt64(index)))
            bits |= UInt64(byte) << (8 * UInt64(index))
        }
        return bits
    }

    /// The number in decimal.
    public var description: String {
        var magnitude = bytes
        if isNegative {
            magnitude.append(0xFF)
            Self.negate(&magnitude)
        }
        var digits: [UInt8] = []
        while let last = magnitude.last {
            if last == 0 {
                magnitude.removeLast()
                continue
            }
            var remainder: UInt16 = 0
            for index in magnitude.indices.reversed() {
                let value = remainder << 8 | UInt16(magnitude[index])
                magnitude[index] = UInt8(value / 10)
                remainder = value % 10
            }
            digits.append(UInt8(ascii: "0") + UInt8(remainder))
        }
        if digits.isEmpty { return "0" }
        return (isNegative ? "-" : "") + String(decoding: digits.reversed(), as: UTF8.self)
    }
}
