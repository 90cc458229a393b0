public import MartletCore

/// What can be a key or a value of a table.
///
/// Keys are ordered by their encoded bytes, so numbers are stored big-endian.
public protocol TableCodable {
    /// Calls `body` with the encoded form.
    func withEncodedBytes<R>(_ body: (UnsafeRawBufferPointer) throws(StorageError) -> R) throws(StorageError) -> R

    /// The value for an encoded form, copied out of it.
    init(decoding span: RawSpan) throws(DecodingError)
}

extension [UInt8]: TableCodable {
    @inlinable
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try span.bytes.withUnsafeBytes { (bytes) throws(StorageError) -> R in try body(bytes) }
    }

    @inlinable
    public init(decoding span: RawSpan) throws(DecodingError) {
        self = span.withUnsafeBytes { Array($0) }
    }
}

extension Bytes: TableCodable {
    @inlinable
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try withUnsafeBytes(body)
    }

    @inlinable
    public init(decoding span: RawSpan) throws(DecodingError) {
        self.init(copying: span)
    }
}

extension String: TableCodable {
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try Array(utf8).withEncodedBytes(body)
    }

    public init(decoding span: RawSpan) throws(DecodingError) {
        let text = span.withUnsafeBytes { String(validating: $0, as: UTF8.self) }
        guard let text else { throw .invalid(field: "text", reason: "not UTF-8") }
        self = text
    }
}

extension UInt64: TableCodable {
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        var stored = bigEndian
        let copy = withUnsafeBytes(of: &stored) { Array($0) }
        return try copy.withEncodedBytes(body)
    }

    public init(decoding span: RawSpan) throws(DecodingError) {
        guard span.byteCount == 8 else { throw .invalid(field: "integer", reason: "not 8 bytes") }
        self = UInt64(bigEndian: span.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
    }
}

extension Multihash: TableCodable {
    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try bytes.withEncodedBytes(body)
    }

    public init(decoding span: RawSpan) throws(DecodingError) {
        try self.init(bytes: span)
    }
}

/// The value of a table whose keys say everything.
public struct NoValue: TableCodable, Hashable, Sendable {
    public init() {}

    public func withEncodedBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try body(UnsafeRawBufferPointer(start: nil, count: 0))
    }

    public init(decoding span: RawSpan) throws(DecodingError) {
        guard span.byteCount == 0 else { throw .trailingBytes(span.byteCount) }
    }
}
