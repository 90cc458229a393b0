/// Reads a message from a view, bounds-checked, without copying it.
///
/// Every method throws `DecodingError.truncated` when the message ends too early and leaves the position where it was.
public struct ByteReader: ~Escapable {
    public let span: RawSpan
    public private(set) var position = 0

    @inlinable
    @_lifetime(copy span)
    public init(_ span: RawSpan) {
        self.span = span
    }

    public var remaining: Int { span.byteCount - position }
    public var isAtEnd: Bool { position == span.byteCount }

    private func need(_ count: Int) throws(DecodingError) {
        guard count >= 0, count <= remaining else { throw .truncated(needed: count, remaining: remaining) }
    }

    public mutating func readByte() throws(DecodingError) -> UInt8 {
        try need(1)
        defer { position += 1 }
        return span.unsafeLoad(fromByteOffset: position, as: UInt8.self)
    }

    /// A big-endian integer of the type's width.
    public mutating func readBigEndian<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type = T.self) throws(DecodingError) -> T {
        let size = MemoryLayout<T>.size
        try need(size)
        defer { position += size }
        return T(bigEndian: span.unsafeLoadUnaligned(fromByteOffset: position, as: T.self))
    }

    public mutating func readBytes(_ count: Int) throws(DecodingError) -> [UInt8] {
        try need(count)
        defer { position += count }
        return span.extracting(position..<position + count).withUnsafeBytes { Array($0) }
    }

    public mutating func skip(_ count: Int) throws(DecodingError) {
        try need(count)
        position += count
    }

    public mutating func readRemaining() -> [UInt8] {
        defer { position = span.byteCount }
        return span.extracting(position..<span.byteCount).withUnsafeBytes { Array($0) }
    }
}

/// Why bytes could not be decoded. Positions are byte offsets from the start of the message.
public enum DecodingError: Error, Hashable, Sendable, CustomStringConvertible {
    case truncated(needed: Int, remaining: Int)
    /// A varint with needless zero groups, or of more than 9 bytes.
    case varintNotMinimal
    case varintTooLong
    /// A length beyond the limit for `field`.
    case tooLong(field: String, length: UInt64, limit: Int)
    case invalid(field: String, reason: String)
    case trailingBytes(Int)

    public var description: String {
        switch self {
        case .truncated(let needed, let remaining): "ends too early: \(needed) bytes needed, \(remaining) left"
        case .varintNotMinimal: "a varint is not in its shortest form"
        case .varintTooLong: "a varint is longer than 9 bytes"
        case .tooLong(let field, let length, let limit): "\(field) is \(length) bytes long, the limit is \(limit)"
        case .invalid(let field, let reason): "\(field): \(reason)"
        case .trailingBytes(let count): "\(count) bytes too many at the end"
        }
    }
}
