/// Unsigned varints of the multiformats specification: at most 9 bytes (63 bits) and always in their shortest form.
///
/// Specification: multiformats/unsigned-varint.
public enum Varint {
    /// The most bytes that a varint may have.
    @inlinable public static var maximumByteCount: Int { 9 }

    /// The number of bytes that `value` takes. `value` is at most 2^63 − 1.
    @inlinable
    public static func byteCount(_ value: UInt64) -> Int {
        max(1, (64 - value.leadingZeroBitCount + 6) / 7)
    }

    /// Adds `value`, which is at most 2^63 − 1, to `output`.
    @inlinable
    public static func append(_ value: UInt64, to output: inout [UInt8]) {
        precondition(value <= UInt64(Int64.max), "a varint holds 63 bits")
        var rest = value
        while rest >= 0x80 {
            output.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        output.append(UInt8(rest))
    }

    /// Writes `value` to the start of `buffer`, which must have room for it.
    ///
    /// - Returns: the number of bytes written.
    @inlinable
    public static func write(_ value: UInt64, to buffer: UnsafeMutableRawBufferPointer) -> Int {
        precondition(value <= UInt64(Int64.max), "a varint holds 63 bits")
        precondition(buffer.count >= byteCount(value), "no room for a varint")
        var rest = value
        var index = 0
        while rest >= 0x80 {
            buffer[index] = UInt8(truncatingIfNeeded: rest) | 0x80
            rest >>= 7
            index += 1
        }
        buffer[index] = UInt8(rest)
        return index + 1
    }

    /// `value`, which is at most 2^63 − 1, in bytes of its own.
    public static func encode(_ value: UInt64) -> [UInt8] {
        var output: [UInt8] = []
        append(value, to: &output)
        return output
    }

    /// What a partial buffer says: a value and its size, or that more bytes are needed.
    @frozen
    public enum Partial: Hashable, Sendable {
        case value(UInt64, byteCount: Int)
        case incomplete
    }

    /// Decodes from the start of `span`, which may hold only part of the varint.
    ///
    /// - Throws: `varintTooLong` after 9 bytes without an end, `varintNotMinimal` for needless zeros.
    @inlinable
    public static func decode(_ span: RawSpan) throws(DecodingError) -> Partial {
        var value: UInt64 = 0
        var index = 0
        while index < span.byteCount {
            guard index < maximumByteCount else { throw .varintTooLong }
            // In bounds by the loop's condition.
            let byte = span.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            value |= UInt64(byte & 0x7F) << UInt64(7 * index)
            index += 1
            if byte < 0x80 {
                if byte == 0, index > 1 { throw .varintNotMinimal }
                return .value(value, byteCount: index)
            }
        }
        if index >= maximumByteCount { throw .varintTooLong }
        return .incomplete
    }
}

extension ByteReader {
    /// The next varint.
    @inlinable
    public mutating func readVarint() throws(DecodingError) -> UInt64 {
        switch try Varint.decode(span.extracting(position..<span.byteCount)) {
        case .value(let value, let size):
            try skip(size)
            return value
        case .incomplete:
            throw .truncated(needed: remaining + 1, remaining: remaining)
        }
    }

    /// A varint length no larger than `limit`, then that many bytes. The limit is checked before anything is allocated.
    public mutating func readLengthPrefixed(limit: Int, field: String) throws(DecodingError) -> [UInt8] {
        try readLengthPrefixedSpan(limit: limit, field: field).withUnsafeBytes { Array($0) }
    }

    /// A varint length no larger than `limit`, then a view of that many bytes.
    @_lifetime(copy self)
    public mutating func readLengthPrefixedSpan(limit: Int, field: String) throws(DecodingError) -> RawSpan {
        let start = position
        do throws(DecodingError) {
            let length = try readVarint()
            guard length <= UInt64(clamping: limit) else {
                throw .tooLong(field: field, length: length, limit: limit)
            }
            return try readSpan(Int(length))
        } catch {
            rewind(to: start)
            throw error
        }
    }
}
