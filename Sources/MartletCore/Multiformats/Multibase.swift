/// Text that says by its first character how it encodes bytes.
///
///     Multibase.base32.encode([1, 2, 3])          // "baebag"
///     try Multibase.decode("baebag").bytes         // [1, 2, 3]
///
/// Decoding is strict: no stray characters, no bits left over, padding only and exactly where the encoding has it.
/// Letters may be of either case where the specification has them mean the same (base16, base32, base36).
/// Specification: multiformats/multibase.
public enum Multibase: UInt8, CaseIterable, Sendable {
    case base16 = 0x66
    case base16Upper = 0x46
    case base32 = 0x62
    case base32Upper = 0x42
    case base36 = 0x6B
    case base36Upper = 0x4B
    case base58btc = 0x7A
    case base64 = 0x6D
    case base64Padded = 0x4D
    case base64URL = 0x75
    case base64URLPadded = 0x55

    /// The longest text that is decoded unless the caller says otherwise. Base58 and base36, whose cost is quadratic,
    /// stop at `Base58.maximumTextByteCount` in any case.
    public static let maximumTextByteCount = 65_536

    /// The character in front of the text.
    public var prefix: Unicode.Scalar { Unicode.Scalar(rawValue) }

    /// `bytes` as text, the prefix in front.
    public func encode(_ bytes: some Collection<UInt8>) -> String {
        String(decoding: [rawValue] + encoded(Array(bytes)), as: UTF8.self)
    }

    /// `bytes` as text without the prefix.
    public func encodeWithoutPrefix(_ bytes: some Collection<UInt8>) -> String {
        String(decoding: encoded(Array(bytes)), as: UTF8.self)
    }

    /// The bytes in `text`, and the encoding that its first character names.
    ///
    /// - Throws: `tooLong` for a text longer than `limit`, else `invalid` with what is wrong.
    public static func decode(
        _ text: some StringProtocol, limit: Int = maximumTextByteCount
    ) throws(DecodingError) -> (base: Multibase, bytes: [UInt8]) {
        try decode(utf8: ArraySlice(text.utf8), limit: limit)
    }

    /// The bytes in `text`, which has no prefix.
    public func decodeWithoutPrefix(
        _ text: some StringProtocol, limit: Int = maximumTextByteCount
    ) throws(DecodingError) -> [UInt8] {
        let characters = ArraySlice(text.utf8)
        guard characters.count <= limit else {
            throw .tooLong(field: "multibase text", length: UInt64(characters.count), limit: limit)
        }
        return try decoded(characters)
    }

    static func decode(
        utf8 text: ArraySlice<UInt8>, limit: Int = maximumTextByteCount
    ) throws(DecodingError) -> (base: Multibase, bytes: [UInt8]) {
        guard text.count <= limit else {
            throw .tooLong(field: "multibase text", length: UInt64(text.count), limit: limit)
        }
        guard let first = text.first else { throw .invalid(field: "multibase", reason: "empty text") }
        guard let base = Multibase(rawValue: first) else {
            throw .invalid(field: "multibase", reason: "\(quoted(first)) names no encoding known here")
        }
        return (base, try base.decoded(text.dropFirst()))
    }

    private func encoded(_ bytes: [UInt8]) -> [UInt8] {
        switch self {
        case .base16: BitRadix.base16.encode(bytes)
        case .base16Upper: uppercased(BitRadix.base16.encode(bytes))
        case .base32: BitRadix.base32.encode(bytes)
        case .base32Upper: uppercased(BitRadix.base32.encode(bytes))
        case .base36: LargeRadix.base36.encode(bytes)
        case .base36Upper: uppercased(LargeRadix.base36.encode(bytes))
        case .base58btc: LargeRadix.base58.encode(bytes)
        case .base64: BitRadix.base64.encode(bytes)
        case .base64Padded: BitRadix.base64Padded.encode(bytes)
        case .base64URL: BitRadix.base64URL.encode(bytes)
        case .base64URLPadded: BitRadix.base64URLPadded.encode(bytes)
        }
    }

    private func decoded(_ text: ArraySlice<UInt8>) throws(DecodingError) -> [UInt8] {
        switch self {
        case .base16, .base16Upper: try BitRadix.base16.decode(text)
        case .base32, .base32Upper: try BitRadix.base32.decode(text)
        case .base36, .base36Upper: try LargeRadix.base36.decode(text)
        case .base58btc: try LargeRadix.base58.decode(text)
        case .base64: try BitRadix.base64.decode(text)
        case .base64Padded: try BitRadix.base64Padded.decode(text)
        case .base64URL: try BitRadix.base64URL.decode(text)
        case .base64URLPadded: try BitRadix.base64URLPadded.decode(text)
        }
    }
}

private func uppercased(_ text: [UInt8]) -> [UInt8] {
    text.map { $0 >= UInt8(ascii: "a") && $0 <= UInt8(ascii: "z") ? $0 ^ 0x20 : $0 }
}

/// An encoding in which each character carries a fixed number of bits (RFC 4648): base16, base32, base64.
struct BitRadix: Sendable {
    let name: String
    let alphabet: [UInt8]
    let digits: [UInt8]
    let bitsPerCharacter: Int
    /// Padded text comes in groups of this many characters; 1 for no padding.
    let groupSize: Int

    static let base16 = BitRadix("base16", "0123456789abcdef", bits: 4, ignoringCase: true)
    static let base32 = BitRadix("base32", "abcdefghijklmnopqrstuvwxyz234567", bits: 5, ignoringCase: true)
    static let base64 = BitRadix("base64", base64Letters + "+/", bits: 6)
    static let base64Padded = BitRadix("base64", base64Letters + "+/", bits: 6, groupSize: 4)
    static let base64URL = BitRadix("base64url", base64Letters + "-_", bits: 6)
    static let base64URLPadded = BitRadix("base64url", base64Letters + "-_", bits: 6, groupSize: 4)
    private static let base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    private init(_ name: String, _ alphabet: String, bits: Int, groupSize: Int = 1, ignoringCase: Bool = false) {
        self.name = name
        self.alphabet = Array(alphabet.utf8)
        digits = digitTable(self.alphabet, ignoringCase: ignoringCase)
        bitsPerCharacter = bits
        self.groupSize = groupSize
    }

    func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 8 + bitsPerCharacter - 1) / bitsPerCharacter + groupSize)
        let mask = UInt32(1) << UInt32(bitsPerCharacter) - 1
        var pending: UInt32 = 0
        var pendingBits = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            pendingBits += 8
            while pendingBits >= bitsPerCharacter {
                pendingBits -= bitsPerCharacter
                text.append(alphabet[Int(pending >> UInt32(pendingBits) & mask)])
            }
            pending &= 0xFF
        }
        if pendingBits > 0 { text.append(alphabet[Int(pending << UInt32(bitsPerCharacter - pendingBits) & mask)]) }
        while !text.count.isMultiple(of: groupSize) { text.append(UInt8(ascii: "=")) }
        return text
    }

    func decode(_ text: ArraySlice<UInt8>) throws(DecodingError) -> [UInt8] {
        var characters = text
        if groupSize > 1 {
            guard text.count.isMultiple(of: groupSize) else {
                throw .invalid(field: name, reason: "the padding is not complete")
            }
            while characters.last == UInt8(ascii: "=") { characters.removeLast() }
            // One byte of a group of three leaves two '='.
            guard text.count - characters.count <= 2 else { throw .invalid(field: name, reason: "too much padding") }
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(characters.count * bitsPerCharacter / 8)
        var pending: UInt32 = 0
        var pendingBits = 0
        for character in characters {
            let digit = digits[Int(character)]
            guard digit != 255 else {
                throw .invalid(field: name, reason: "\(quoted(character)) is not one of its characters")
            }
            pending = pending << UInt32(bitsPerCharacter) | UInt32(digit)
            pendingBits += bitsPerCharacter
            if pendingBits >= 8 {
                pendingBits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> UInt32(pendingBits)))
                pending &= 1 << UInt32(pendingBits) - 1
            }
        }
        guard pendingBits < bitsPerCharacter else { throw .invalid(field: name, reason: "a character too many") }
        guard pending == 0 else { throw .invalid(field: name, reason: "bits left over at the end") }
        return bytes
    }
}
