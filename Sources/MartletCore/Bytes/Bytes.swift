#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// An immutable run of bytes: a slice of shared memory that costs 16 bytes to pass on and never copies its content.
///
///     var message: Bytes = [1, 2, 3, 4]
///     let head = message.takeFirst(2)     // [1, 2]; message is now [3, 4]
///
/// Taking a slice keeps the whole region alive. Code that holds a few bytes for long therefore calls `compacted()`.
@frozen
public struct Bytes: Sendable {
    @usableFromInline var storage: BytesStorage?
    @usableFromInline var lower: UInt32
    @usableFromInline var upper: UInt32

    @inlinable
    init(storage: BytesStorage, lower: UInt32, upper: UInt32) {
        self.storage = storage
        self.lower = lower
        self.upper = upper
    }

    /// No bytes.
    @inlinable
    public init() {
        storage = nil
        lower = 0
        upper = 0
    }

    /// A copy of `bytes`.
    @inlinable
    public init(copying bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { self.init(); return }
        let storage = BytesStorage(capacity: bytes.count)
        storage.mutableBytes.copyMemory(from: bytes)
        self.init(storage: storage, lower: 0, upper: UInt32(bytes.count))
    }

    /// A copy of `span`.
    @inlinable
    public init(copying span: RawSpan) {
        self = span.withUnsafeBytes { Bytes(copying: $0) }
    }

    /// A copy of `array`.
    @inlinable
    public init(_ array: [UInt8]) {
        self = array.withUnsafeBytes { Bytes(copying: $0) }
    }

    /// A copy of `string` in UTF-8.
    public init(utf8 string: String) {
        self.init(Array(string.utf8))
    }

    /// New memory of `count` bytes, filled by `body`.
    @inlinable
    public init<E: Error>(count: Int, initializingWith body: (UnsafeMutableRawBufferPointer) throws(E) -> Void)
        throws(E)
    {
        guard count > 0 else { self.init(); return }
        let storage = BytesStorage(capacity: count)
        try body(storage.mutableBytes)
        self.init(storage: storage, lower: 0, upper: UInt32(count))
    }

    @inlinable public var count: Int { Int(upper) - Int(lower) }
    @inlinable public var isEmpty: Bool { lower == upper }

    /// The number of bytes that this slice keeps in memory, which may be far more than `count`.
    @inlinable public var retainedByteCount: Int { storage?.capacity ?? 0 }

    @inlinable
    public subscript(position: Int) -> UInt8 {
        precondition(position >= 0 && position < count, "byte \(position) of \(count)")
        // In bounds by the line above; the storage is alive because self holds it.
        return storage.unsafelyUnwrapped.base.load(fromByteOffset: Int(lower) + position, as: UInt8.self)
    }

    /// The bytes from `range.lowerBound` up to `range.upperBound`, counted from the start of this slice.
    @inlinable
    public subscript(range: Range<Int>) -> Bytes {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "range \(range) of \(count) bytes")
        guard let storage, !range.isEmpty else { return Bytes() }
        return Bytes(
            storage: storage, lower: lower + UInt32(range.lowerBound), upper: lower + UInt32(range.upperBound))
    }

    /// Removes the first `n` bytes and returns them.
    @inlinable
    public mutating func takeFirst(_ n: Int) -> Bytes {
        let head = self[0..<n]
        lower += UInt32(n)
        if lower == upper { self = Bytes() }
        return head
    }

    /// Removes the first `n` bytes.
    @inlinable
    public mutating func removeFirst(_ n: Int) {
        precondition(n >= 0 && n <= count, "removing \(n) of \(count) bytes")
        lower += UInt32(n)
        if lower == upper { self = Bytes() }
    }

    @inlinable public func prefix(_ n: Int) -> Bytes { self[0..<Swift.min(n, count)] }
    @inlinable public func dropFirst(_ n: Int) -> Bytes { self[Swift.min(n, count)..<count] }

    /// A copy as an array.
    @inlinable public var array: [UInt8] { withUnsafeBytes { Array($0) } }

    /// The same bytes in memory of exactly their size, so that a larger region can go.
    public func compacted() -> Bytes {
        retainedByteCount == count ? self : withUnsafeBytes { Bytes(copying: $0) }
    }

    @inlinable
    public func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        guard let storage else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeRawBufferPointer(start: storage.base + Int(lower), count: count))
    }

    /// A bounds-checked view that cannot outlive this value.
    @inlinable
    public var span: RawSpan {
        @_lifetime(borrow self)
        get {
            // The storage lives as long as self, on which the span depends.
            let buffer = UnsafeRawBufferPointer(
                start: storage.map { UnsafeRawPointer($0.base) + Int(lower) }, count: count)
            return _overrideLifetime(RawSpan(_unsafeBytes: buffer), borrowing: self)
        }
    }
}

extension Bytes: ExpressibleByArrayLiteral {
    public init(arrayLiteral elements: UInt8...) { self.init(elements) }
}

extension Bytes: Hashable {
    @inlinable
    public static func == (left: Bytes, right: Bytes) -> Bool {
        left.count == right.count && left.withUnsafeBytes { l in right.withUnsafeBytes { r in areEqual(l, r) } }
    }

    @inlinable
    public func hash(into hasher: inout Hasher) {
        withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension Bytes: CustomStringConvertible {
    /// Only the size: contents may be secret, and logs must not carry them.
    public var description: String { "\(count) bytes" }
}

/// Whether two regions of one size hold the same.
@usableFromInline
func areEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard let l = left.baseAddress, let r = right.baseAddress, l != r else { return true }
    return memcmp(l, r, left.count) == 0
}
