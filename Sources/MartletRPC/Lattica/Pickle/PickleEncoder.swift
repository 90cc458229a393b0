import MartletCore

/// Writes a pickle of protocol 4. Nothing is shared by way of the memo, so readers need none.
struct PickleEncoder {
    private let limits: PickleLimits
    private var output: [UInt8] = [PickleOpcode.proto.rawValue, 4]
    private var depth = 0

    init(limits: PickleLimits) { self.limits = limits }

    /// - Throws: `.limit`, or `.badKey` for a dict that Python could not have; positions are in the output.
    mutating func write(_ value: PickleValue) throws(PickleError) {
        switch value {
        case .null: put(.none)
        case .bool(let value): put(value ? .newTrue : .newFalse)
        case .int(let value): write(value)
        case .longInt(let integer): try write(integer)
        case .float(let value):
            put(.binFloat)
            putLittleEndian(value.bitPattern.byteSwapped, 8)
        case .string(let text):
            putCount(text.utf8.count, .shortBinUnicode, .binUnicode, .binUnicode8)
            output.append(contentsOf: text.utf8)
        case .bytes(let bytes):
            putCount(bytes.count, .shortBinBytes, .binBytes, .binBytes8)
            bytes.withUnsafeBytes { output.append(contentsOf: $0) }
        case .list(let values): try writeList(values)
        case .tuple(let values): try writeTuple(values)
        case .dict(let entries): try writeDict(entries)
        }
        guard output.count < limits.byteCount else { throw limit("byteCount", limits.byteCount) }
    }

    consuming func finish() -> Bytes {
        put(.stop)
        return Bytes(output)
    }

    private func limit(_ name: String, _ value: Int) -> PickleError {
        .limit(name: name, value: value, position: output.count)
    }

    private mutating func put(_ opcode: PickleOpcode) { output.append(opcode.rawValue) }

    private mutating func putLittleEndian(_ value: UInt64, _ count: UInt64) {
        for index in 0..<count { output.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }

    private mutating func putCount(_ count: Int, _ short: PickleOpcode, _ medium: PickleOpcode, _ long: PickleOpcode) {
        switch count {
        case ...0xFF:
            put(short)
            output.append(UInt8(count))
        case ...0xFFFF_FFFF:
            put(medium)
            putLittleEndian(UInt64(count), 4)
        default:
            put(long)
            putLittleEndian(UInt64(count), 8)
        }
    }

    private mutating func write(_ value: Int) {
        switch value {
        case 0...0xFF:
            put(.binInt1)
            output.append(UInt8(value))
        case 0...0xFFFF:
            put(.binInt2)
            putLittleEndian(UInt64(value), 2)
        case Int(Int32.min)...Int(Int32.max):
            put(.binInt)
            putLittleEndian(UInt64(bitPattern: Int64(value)), 4)
        default:
            let bytes = PickleInteger(value).bytes
            put(.long1)
            output.append(UInt8(bytes.count))
            output += bytes
        }
    }

    private mutating func write(_ integer: PickleInteger) throws(PickleError) {
        guard integer.bytes.count <= limits.integerByteCount else {
            throw limit("integerByteCount", limits.integerByteCount)
        }
        if integer.bytes.count <= 0xFF {
            put(.long1)
            output.append(UInt8(integer.bytes.count))
        } else {
            put(.long4)
            putLittleEndian(UInt64(integer.bytes.count), 4)
        }
        output += integer.bytes
    }

    private mutating func enter() throws(PickleError) {
        depth += 1
        guard depth <= limits.depth else { throw limit("depth", limits.depth) }
    }

    private mutating func writeList(_ values: [PickleValue]) throws(PickleError) {
        try enter()
        put(.emptyList)
        if !values.isEmpty {
            put(.mark)
            for value in values { try write(value) }
            put(.appends)
        }
        depth -= 1
    }

    private mutating func writeTuple(_ values: [PickleValue]) throws(PickleError) {
        try enter()
        if values.count > 3 { put(.mark) }
        for value in values { try write(value) }
        switch values.count {
        case 0: put(.emptyTuple)
        case 1: put(.tuple1)
        case 2: put(.tuple2)
        case 3: put(.tuple3)
        default: put(.tuple)
        }
        depth -= 1
    }

    private mutating func writeDict(_ entries: [PickleValue.Entry]) throws(PickleError) {
        try enter()
        let position = output.count
        put(.emptyDict)
        if !entries.isEmpty {
            put(.mark)
            var seen: Set<PickleValue> = []
            for entry in entries {
                guard entry.key.isHashable, seen.insert(entry.key).inserted else { throw .badKey(position: position) }
                try write(entry.key)
                try write(entry.value)
            }
            put(.setItems)
        }
        depth -= 1
    }
}
