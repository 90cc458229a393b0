import MartletCore

/// Reads the JSON of a safetensors header and nothing else: an object of objects with known members. Not recursive, so its
/// input cannot exhaust the stack.
struct SafetensorsParser {
    struct Entry {
        var name: String
        var type: SafetensorsHeader.ElementType
        var shape: [UInt64]
        var begin: UInt64
        var end: UInt64
    }

    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func parse() throws(DecodingError) -> (entries: [Entry], metadata: [String: String]) {
        // The format demands that the first byte is the brace; spaces may follow the last one.
        guard bytes.first == UInt8(ascii: "{") else { throw invalid("does not begin with an object") }
        var entries: [Entry] = []
        var metadata: [String: String] = [:]
        var names: Set<String> = []
        try object { (parser, name) throws(DecodingError) in
            guard names.insert(name).inserted else { throw parser.invalid("the name of a tensor twice") }
            if name == "__metadata__" {
                try parser.object { (parser, key) throws(DecodingError) in
                    let value = try parser.string()
                    guard metadata.updateValue(value, forKey: key) == nil else { throw parser.invalid("a key twice") }
                }
                return
            }
            guard entries.count < SafetensorsHeader.maximumTensorCount else {
                throw .tooLong(
                    field: "tensors", length: UInt64(entries.count) + 1, limit: SafetensorsHeader.maximumTensorCount)
            }
            entries.append(try parser.entry(name))
        }
        skipSpaces()
        guard position == bytes.count else { throw .trailingBytes(bytes.count - position) }
        return (entries, metadata)
    }

    private mutating func entry(_ name: String) throws(DecodingError) -> Entry {
        var type: SafetensorsHeader.ElementType?
        var shape: [UInt64]?
        var offsets: [UInt64]?
        try object { (parser, member) throws(DecodingError) in
            switch member {
            case "dtype" where type == nil:
                let text = try parser.string()
                guard let known = SafetensorsHeader.ElementType(rawValue: text) else {
                    throw parser.invalid("an unknown element type")
                }
                type = known
            case "shape" where shape == nil:
                shape = try parser.numbers(limit: SafetensorsHeader.maximumDimensionCount)
            case "data_offsets" where offsets == nil:
                offsets = try parser.numbers(limit: 2)
            default: throw parser.invalid("an unknown or repeated member of a tensor")
            }
        }
        guard let type, let shape, let offsets, offsets.count == 2 else { throw invalid("an incomplete tensor") }
        return Entry(name: name, type: type, shape: shape, begin: offsets[0], end: offsets[1])
    }

    // MARK: JSON

    private mutating func object(
        _ member: (inout SafetensorsParser, String) throws(DecodingError) -> Void
    ) throws(DecodingError) {
        try expect(UInt8(ascii: "{"))
        if accept(UInt8(ascii: "}")) { return }
        repeat {
            let name = try string()
            try expect(UInt8(ascii: ":"))
            try member(&self, name)
        } while accept(UInt8(ascii: ","))
        try expect(UInt8(ascii: "}"))
    }

    private mutating func numbers(limit: Int) throws(DecodingError) -> [UInt64] {
        try expect(UInt8(ascii: "["))
        var found: [UInt64] = []
        if accept(UInt8(ascii: "]")) { return found }
        repeat {
            guard found.count < limit else {
                throw .tooLong(field: "numbers", length: UInt64(found.count) + 1, limit: limit)
            }
            found.append(try number())
        } while accept(UInt8(ascii: ","))
        try expect(UInt8(ascii: "]"))
        return found
    }

    private mutating func number() throws(DecodingError) -> UInt64 {
        skipSpaces()
        let start = position
        var value: UInt64 = 0
        while let byte = current, byte >= 0x30, byte <= 0x39 {
            let (scaled, first) = value.multipliedReportingOverflow(by: 10)
            let (sum, second) = scaled.addingReportingOverflow(UInt64(byte - 0x30))
            guard !first, !second else { throw invalid("a number beyond 64 bits") }
            value = sum
            position += 1
        }
        guard position > start, position == start + 1 || bytes[start] != 0x30 else { throw invalid("no whole number") }
        return value
    }

    private mutating func string() throws(DecodingError) -> String {
        try expect(UInt8(ascii: "\""))
        var text: [UInt8] = []
        while let byte = current {
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw invalid("text that is not UTF-8")
                }
                return string
            case UInt8(ascii: "\\"): try escape(&text)
            case 0..<0x20: throw invalid("a control character in a text")
            default: text.append(byte)
            }
        }
        throw .truncated(needed: 1, remaining: 0)
    }

    private mutating func escape(_ text: inout [UInt8]) throws(DecodingError) {
        guard let byte = current else { throw .truncated(needed: 1, remaining: 0) }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(8)
        case UInt8(ascii: "f"): text.append(12)
        case UInt8(ascii: "n"): text.append(10)
        case UInt8(ascii: "r"): text.append(13)
        case UInt8(ascii: "t"): text.append(9)
        case UInt8(ascii: "u"):
            var value = UInt32(try hexadecimal())
            if (0xD800..<0xDC00).contains(value) {
                guard current == UInt8(ascii: "\\") else { throw invalid("half a character") }
                position += 1
                guard current == UInt8(ascii: "u") else { throw invalid("half a character") }
                position += 1
                let low = UInt32(try hexadecimal())
                guard (0xDC00..<0xE000).contains(low) else { throw invalid("half a character") }
                value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(value) else { throw invalid("half a character") }
            text.append(contentsOf: Array(String(scalar).utf8))
        default: throw invalid("an unknown escape")
        }
    }

    private mutating func hexadecimal() throws(DecodingError) -> UInt16 {
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = current, byte < 0x80, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw invalid("no four hexadecimal digits")
            }
            value = value << 4 | UInt16(digit)
            position += 1
        }
        return value
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpaces() {
        while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func accept(_ byte: UInt8) -> Bool {
        skipSpaces()
        guard current == byte else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ byte: UInt8) throws(DecodingError) {
        guard accept(byte) else { throw invalid("no \(Character(Unicode.Scalar(byte)))") }
    }

    private func invalid(_ reason: String) -> DecodingError {
        .invalid(field: "safetensors header", reason: "\(reason) at byte \(position)")
    }
}
