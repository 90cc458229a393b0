public import MartletCore

/// Reads values in bincode 2's standard form: little-endian, integers of variable length, no names and no padding.
///
///     var reader = BincodeReader(message)
///     let name = try reader.readString(limit: 255, field: "name")
///     let payload = try reader.readBytes(limit: 1 << 20, field: "payload")     // slices, not copied
///
/// The input may lie in several pieces. A length that says more than its limit or more than is there is refused before
/// anything is allocated for it.
public struct BincodeReader {
    private let pieces: [Bytes]
    /// The piece that is read, and how far into it.
    private var index = 0
    private var offset = 0
    /// How many bytes have been read.
    public private(set) var position = 0
    /// How many bytes are left.
    public private(set) var remaining: Int

    public init(_ message: RPCMessage) {
        pieces = message.pieces
        remaining = message.byteCount
    }

    public init(_ bytes: Bytes) { self.init(RPCMessage(bytes)) }

    public mutating func readByte() throws(DecodingError) -> UInt8 {
        guard remaining > 0 else { throw .truncated(needed: 1, remaining: 0) }
        let byte = pieces[index][offset]
        advance(1)
        return byte
    }

    /// Moves on inside the current piece, of which at least `count` bytes are left.
    private mutating func advance(_ count: Int) {
        offset += count
        position += count
        remaining -= count
        if offset == pieces[index].count {
            index += 1
            offset = 0
        }
    }

    /// An unsigned integer: one byte up to 250, else a mark and 2, 4 or 8 bytes.
    public mutating func readInteger() throws(DecodingError) -> UInt64 {
        let first = try readByte()
        switch first {
        case 0...250: return UInt64(first)
        case 251: return try readLittleEndian(2)
        case 252: return try readLittleEndian(4)
        case 253: return try readLittleEndian(8)
        default: throw .invalid(field: "integer", reason: "begins with \(first), which marks no integer of 64 bits")
        }
    }

    private mutating func readLittleEndian(_ count: Int) throws(DecodingError) -> UInt64 {
        guard remaining >= count else { throw .truncated(needed: count, remaining: remaining) }
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(try readByte()) << (8 * UInt64(index)) }
        return value
    }

    /// The length of what follows: at most `limit`, and no more than is there.
    private mutating func readLength(_ limit: Int, _ field: String) throws(DecodingError) -> Int {
        let length = try readInteger()
        guard length <= UInt64(max(0, limit)) else { throw .tooLong(field: field, length: length, limit: limit) }
        guard length <= UInt64(remaining) else {
            throw .truncated(needed: Int(clamping: length), remaining: remaining)
        }
        return Int(length)
    }

    /// A byte vector, as slices of the input.
    public mutating func readBytes(limit: Int, field: String) throws(DecodingError) -> RPCMessage {
        var left = try readLength(limit, field)
        var result = RPCMessage()
        while left > 0 {
            let count = min(left, pieces[index].count - offset)
            result.append(pieces[index][offset..<offset + count])
            advance(count)
            left -= count
        }
        return result
    }

    /// A string, which must be UTF-8.
    public mutating func readString(limit: Int, field: String) throws(DecodingError) -> String {
        let bytes = try readBytes(limit: limit, field: field).contiguous()
        guard let text = bytes.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
            throw .invalid(field: field, reason: "is not UTF-8")
        }
        return text
    }

    public mutating func readBool(field: String) throws(DecodingError) -> Bool {
        try readTag(count: 2, field: field) == 1
    }

    /// Whether an optional value is there and follows.
    public mutating func readOption(field: String) throws(DecodingError) -> Bool {
        try readTag(count: 2, field: field) == 1
    }

    /// Which of `count` cases of an enumeration follows.
    public mutating func readTag(count: Int, field: String) throws(DecodingError) -> Int {
        let tag = try readInteger()
        guard tag < UInt64(max(0, count)) else { throw .invalid(field: field, reason: "is \(tag), of \(count) cases") }
        return Int(tag)
    }

    public mutating func readDouble() throws(DecodingError) -> Double {
        Double(bitPattern: try readLittleEndian(8))
    }
}
