/// Reads a message from a view, bounds-checked, without copying it.
///
/// Every method throws `DecodingError.truncated` when the message ends too early and leaves the position where it was.
@frozen
public struct ByteReader: ~Escapable {
    /// The whole message, from its first byte on.
    public let span: RawSpan
    @usableFromInline var offset = 0

    @inlinable
    @_lifetime(copy span)
    public init(_ span: RawSpan) {
        self.span = span
    }

    /// How many bytes have been read.
    @inlinable public var position: Int { offset }
    /// How many bytes are left.
    @inlinable public var remaining: Int { span.byteCount - offset }
    @inlinable public var isAtEnd: Bool { offset == span.byteCount }

    @inlinable
    func need(_ count: Int) throws(DecodingError) {
        guard count >= 0, count <= remaining else { throw .truncated(needed: count, remaining: remaining) }
    }

    /// The next byte.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func readByte() throws(DecodingError) -> UInt8 {
        try need(1)
        defer { offset += 1 }
        // In bounds by the line above.
        return span.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// A big-endian integer of the type's width.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func readBigEndian<T: FixedWidthInteger & BitwiseCopyable>(
        _: T.Type = T.self
    ) throws(DecodingError) -> T {
        let size = MemoryLayout<T>.size
        try need(size)
        defer { offset += size }
        // In bounds by the check above; integers may have any bits.
        return T(bigEndian: span.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// A copy of the next `count` bytes.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func readBytes(_ count: Int) throws(DecodingError) -> [UInt8] {
        try need(count)
        defer { offset += count }
        return span.extracting(offset..<offset + count).withUnsafeBytes { Array($0) }
    }

    /// A view of the next `count` bytes, valid as long as the message is.
    @inlinable
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func readSpan(_ count: Int) throws(DecodingError) -> RawSpan {
        try need(count)
        defer { offset += count }
        return span.extracting(offset..<offset + count)
    }

    /// Passes over `count` bytes.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func skip(_ count: Int) throws(DecodingError) {
        try need(count)
        offset += count
    }

    /// Goes back to a position read before.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func rewind(to position: Int) {
        precondition(position >= 0 && position <= offset, "rewinding from \(offset) to \(position)")
        offset = position
    }

    /// A copy of all that is left.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func readRemaining() -> [UInt8] {
        defer { offset = span.byteCount }
        return span.extracting(offset..<span.byteCount).withUnsafeBytes { Array($0) }
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
