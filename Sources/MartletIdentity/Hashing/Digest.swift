public import MartletCore

/// The 32 bytes of a SHA-256 hash, without heap memory of their own.
///
/// Digests order by their bytes, so that sorted output does not depend on the machine.
@frozen
public struct Digest: Hashable, Comparable, Sendable {
    // The bytes in memory order: word0 holds the first eight.
    @usableFromInline var word0: UInt64
    @usableFromInline var word1: UInt64
    @usableFromInline var word2: UInt64
    @usableFromInline var word3: UInt64

    /// The size of every digest.
    public static let byteCount = 32

    /// 32 bytes written by `body`, which finds zeros.
    @inlinable
    init(initializingWith body: (UnsafeMutableRawBufferPointer) -> Void) {
        word0 = 0
        word1 = 0
        word2 = 0
        word3 = 0
        withUnsafeMutableBytes(of: &self) { body($0) }
    }

    /// A digest that was computed elsewhere. Throws when it is not 32 bytes long.
    public init(bytes: RawSpan) throws(DecodingError) {
        guard bytes.byteCount == Self.byteCount else {
            throw .invalid(field: "digest", reason: "\(bytes.byteCount) bytes instead of \(Self.byteCount)")
        }
        self.init { memory in bytes.withUnsafeBytes { memory.copyMemory(from: $0) } }
    }

    /// A digest that was computed elsewhere. Throws when it is not 32 bytes long.
    public init(bytes: [UInt8]) throws(DecodingError) {
        try self.init(bytes: bytes.span.bytes)
    }

    /// A copy as an array.
    public var bytes: [UInt8] { withUnsafeBytes { Array($0) } }

    @inlinable
    public func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        // The closure gets the 32 bytes of a copy that lives as long as the call.
        try Swift.withUnsafeBytes(of: self) { bytes throws(E) -> R in try body(bytes) }
    }

    @inlinable
    public static func < (left: Digest, right: Digest) -> Bool {
        if left.word0 != right.word0 { return left.word0.bigEndian < right.word0.bigEndian }
        if left.word1 != right.word1 { return left.word1.bigEndian < right.word1.bigEndian }
        if left.word2 != right.word2 { return left.word2.bigEndian < right.word2.bigEndian }
        return left.word3.bigEndian < right.word3.bigEndian
    }
}

extension Digest: CustomStringConvertible {
    /// Lower-case hexadecimal, 64 characters.
    public var description: String { hexadecimal(bytes) }
}

/// Lower-case hexadecimal, two characters a byte.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}
