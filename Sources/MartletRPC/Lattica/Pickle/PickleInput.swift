import MartletCore

/// The bytes of a pickle and how far they are read.
struct PickleInput {
    let bytes: Bytes
    private(set) var position = 0

    init(_ bytes: Bytes) { self.bytes = bytes }

    var remaining: Int { bytes.count - position }
    var isAtEnd: Bool { remaining == 0 }

    mutating func readByte() throws(PickleError) -> UInt8 {
        guard remaining > 0 else { throw .truncated(position: position) }
        defer { position += 1 }
        return bytes[position]
    }

    /// A little-endian integer of `count` bytes, at most 8.
    mutating func readInteger(_ count: Int) throws(PickleError) -> UInt64 {
        guard remaining >= count else { throw .truncated(position: position) }
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[position + index]) << (8 * UInt64(index)) }
        position += count
        return value
    }

    /// The next `count` bytes, as a slice.
    private mutating func readSlice(_ count: UInt64) throws(PickleError) -> Bytes {
        guard count <= UInt64(remaining) else { throw .truncated(position: position) }
        let slice = bytes[position..<position + Int(count)]
        position += Int(count)
        return slice
    }

    /// What stands before the next line feed, which is passed over.
    private mutating func readLine(limit: Int) throws(PickleError) -> Bytes {
        let start = position
        while position - start <= limit {
            if try readByte() == 0x0A { return bytes[start..<position - 1] }
        }
        throw .invalid(what: "a line of more than \(limit) bytes", position: start)
    }

    private mutating func readNumberLine() throws(PickleError) -> String {
        let start = position
        let line = try readLine(limit: PickleDecoder.numberTextSize)
        guard let text = line.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
            throw .invalid(what: "a number that is no text", position: start)
        }
        return text
    }

    /// The number of a memo entry in text.
    mutating func readIndexLine() throws(PickleError) -> Int {
        let start = position
        guard let index = Int(try readNumberLine()), index >= 0 else {
            throw .invalid(what: "a memo entry's number that is none", position: start)
        }
        return index
    }

    // MARK: None, bool, numbers, text and bytes

    /// The value of an opcode that stands for one.
    mutating func readScalar(_ opcode: PickleOpcode, at start: Int, _ limits: PickleLimits) throws(PickleError)
        -> PickleValue
    {
        switch opcode {
        case .none: .null
        case .newTrue: .bool(true)
        case .newFalse: .bool(false)
        case .binInt: .int(Int(Int32(truncatingIfNeeded: try readInteger(4))))
        case .binInt1: .int(Int(try readByte()))
        case .binInt2: .int(Int(try readInteger(2)))
        case .int: try readIntLine(start, limits)
        case .long: try readLongLine(start, limits)
        case .long1: try readLong(UInt64(readByte()), start, limits)
        case .long4: try readLong(readInteger(4), start, limits)
        case .float: try readFloatLine(start)
        case .binFloat: .float(Double(bitPattern: try readInteger(8).byteSwapped))
        case .unicode: try readUnicodeLine(start)
        case .shortBinUnicode: try readText(UInt64(readByte()), start)
        case .binUnicode: try readText(readInteger(4), start)
        case .binUnicode8: try readText(readInteger(8), start)
        case .shortBinBytes: .bytes(try readSlice(UInt64(readByte())))
        case .binBytes: .bytes(try readSlice(readInteger(4)))
        case .binBytes8: .bytes(try readSlice(readInteger(8)))
        default: throw .badStack(opcode: "\(opcode)", position: start)
        }
    }

    private mutating func readText(_ count: UInt64, _ start: Int) throws(PickleError) -> PickleValue {
        let slice = try readSlice(count)
        // Python writes halves of surrogate pairs as they are, which is no UTF-8 and no text here.
        guard let text = slice.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
            throw .invalid(what: "a str that is not UTF-8", position: start)
        }
        return .string(text)
    }

    private static func value(of integer: PickleInteger) -> PickleValue {
        if let int = integer.int { .int(int) } else { .longInt(integer) }
    }

    private mutating func readLong(_ count: UInt64, _ start: Int, _ limits: PickleLimits) throws(PickleError)
        -> PickleValue
    {
        guard count <= UInt64(limits.integerByteCount) else {
            throw .limit(name: "integerByteCount", value: limits.integerByteCount, position: start)
        }
        return Self.value(of: PickleInteger(littleEndian: try readSlice(count).array))
    }

    private mutating func readIntLine(_ start: Int, _ limits: PickleLimits) throws(PickleError) -> PickleValue {
        let text = try readNumberLine()
        switch text {
        case "00": return .bool(false)
        case "01": return .bool(true)
        default: return try Self.integer(text, start, limits)
        }
    }

    private mutating func readLongLine(_ start: Int, _ limits: PickleLimits) throws(PickleError) -> PickleValue {
        let text = try readNumberLine()
        return try Self.integer(text.hasSuffix("L") ? String(text.dropLast()) : text, start, limits)
    }

    private static func integer(_ text: String, _ start: Int, _ limits: PickleLimits) throws(PickleError) -> PickleValue
    {
        guard let integer = PickleInteger(decimal: text) else {
            throw .invalid(what: "an int that is none", position: start)
        }
        guard integer.bytes.count <= limits.integerByteCount else {
            throw .limit(name: "integerByteCount", value: limits.integerByteCount, position: start)
        }
        return value(of: integer)
    }

    private mutating func readFloatLine(_ start: Int) throws(PickleError) -> PickleValue {
        let text = try readNumberLine()
        // Swift would also take hexadecimal, which Python does not write.
        guard !text.utf8.contains(where: { $0 | 0x20 == UInt8(ascii: "x") }), let value = Double(text) else {
            throw .invalid(what: "a float that is none", position: start)
        }
        return .float(value)
    }

    /// Text of protocol 0: Latin-1, with `\uXXXX` and `\UXXXXXXXX` for what it cannot say.
    private mutating func readUnicodeLine(_ start: Int) throws(PickleError) -> PickleValue {
        let line = try readLine(limit: .max - 1)
        var scalars = String.UnicodeScalarView()
        var index = 0
        while index < line.count {
            let byte = line[index]
            index += 1
            guard byte == UInt8(ascii: "\\"), index < line.count, let width = Self.escapeWidth(line[index]) else {
                scalars.append(Unicode.Scalar(byte))
                continue
            }
            index += 1
            var value: UInt32 = 0
            for _ in 0..<width {
                guard index < line.count, let digit = Self.hexValue(line[index]) else {
                    throw .invalid(what: "a str with an escape that is cut short", position: start)
                }
                value = value << 4 | digit
                index += 1
            }
            guard let scalar = Unicode.Scalar(value) else {
                throw .invalid(what: "a str with a character that is none", position: start)
            }
            scalars.append(scalar)
        }
        return .string(String(scalars))
    }

    private static func escapeWidth(_ byte: UInt8) -> Int? {
        switch byte {
        case UInt8(ascii: "u"): 4
        case UInt8(ascii: "U"): 8
        default: nil
        }
    }

    private static func hexValue(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}
