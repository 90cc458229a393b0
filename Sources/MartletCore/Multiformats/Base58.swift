/// Base58 with the Bitcoin alphabet and no prefix: how peer ids and version 0 CIDs are written.
///
/// Base58 reads its input as one large number, which costs time that grows with the square of the length. So decoding
/// refuses more than `maximumTextByteCount` characters before it looks at them.
public enum Base58 {
    /// The longest text that is decoded: enough for anything the mesh writes in base58.
    public static let maximumTextByteCount = 1024

    /// The text for `bytes`. Meant for identifiers, not for payloads: the cost is quadratic.
    public static func encode(_ bytes: some Collection<UInt8>) -> String {
        String(decoding: LargeRadix.base58.encode(Array(bytes)), as: UTF8.self)
    }

    /// The bytes that `text` stands for.
    ///
    /// - Throws: `tooLong` beyond the limit, `invalid` for a character outside the alphabet.
    public static func decode(_ text: some StringProtocol) throws(DecodingError) -> [UInt8] {
        try LargeRadix.base58.decode(ArraySlice(text.utf8))
    }
}

/// An encoding that reads bytes as one large number: base58 and base36.
struct LargeRadix: Sendable {
    let name: String
    let alphabet: [UInt8]
    /// Each character's digit, 255 for characters outside the alphabet.
    let digits: [UInt8]
    /// How many digits go through one 32-bit word at a time, and the radix to that power.
    let digitsPerWord: Int
    let wordRadix: UInt64

    static let base58 = LargeRadix(
        name: "base58", alphabet: "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", ignoringCase: false)
    static let base36 = LargeRadix(
        name: "base36", alphabet: "0123456789abcdefghijklmnopqrstuvwxyz", ignoringCase: true)

    init(name: String, alphabet: String, ignoringCase: Bool) {
        self.name = name
        self.alphabet = Array(alphabet.utf8)
        digits = digitTable(self.alphabet, ignoringCase: ignoringCase)
        var count = 0
        var power: UInt64 = 1
        while power * UInt64(self.alphabet.count) <= 1 << 32 {
            power *= UInt64(self.alphabet.count)
            count += 1
        }
        digitsPerWord = count
        wordRadix = power
    }

    func encode(_ bytes: [UInt8]) -> [UInt8] {
        let zeros = bytes.prefix { $0 == 0 }.count
        // The number as 32-bit words, the most significant first.
        var words = [UInt32](repeating: 0, count: (bytes.count - zeros + 3) / 4)
        var position = words.count * 4 - (bytes.count - zeros)
        for byte in bytes.dropFirst(zeros) {
            words[position / 4] |= UInt32(byte) << UInt32(24 - 8 * (position % 4))
            position += 1
        }
        // Divided by the radix again and again, it gives its digits from the least significant on.
        var reversed: [UInt8] = []
        reversed.reserveCapacity(zeros + words.count * (digitsPerWord + 2))
        var first = 0
        while first < words.count {
            var remainder: UInt64 = 0
            for index in first..<words.count {
                let dividend = remainder << 32 | UInt64(words[index])
                words[index] = UInt32(dividend / wordRadix)
                remainder = dividend % wordRadix
            }
            while first < words.count, words[first] == 0 { first += 1 }
            for _ in 0..<digitsPerWord {
                reversed.append(alphabet[Int(remainder % UInt64(alphabet.count))])
                remainder /= UInt64(alphabet.count)
            }
        }
        while reversed.last == alphabet[0] { reversed.removeLast() }
        // A leading zero byte is a leading zero digit.
        reversed.append(contentsOf: repeatElement(alphabet[0], count: zeros))
        return reversed.reversed()
    }

    func decode(_ text: ArraySlice<UInt8>) throws(DecodingError) -> [UInt8] {
        guard text.count <= Base58.maximumTextByteCount else {
            throw .tooLong(field: name, length: UInt64(text.count), limit: Base58.maximumTextByteCount)
        }
        let zeros = text.prefix { $0 == alphabet[0] }.count
        // 32-bit words, the least significant first.
        var words: [UInt32] = []
        words.reserveCapacity(text.count / digitsPerWord + 1)
        var pending: UInt64 = 0
        var scale: UInt64 = 1
        func flush() {
            var carry = pending
            for index in words.indices {
                let product = UInt64(words[index]) * scale + carry
                words[index] = UInt32(truncatingIfNeeded: product)
                carry = product >> 32
            }
            if carry > 0 { words.append(UInt32(carry)) }
            pending = 0
            scale = 1
        }
        for character in text.dropFirst(zeros) {
            let digit = digits[Int(character)]
            guard digit != 255 else {
                throw .invalid(field: name, reason: "\(quoted(character)) is not one of its characters")
            }
            pending = pending * UInt64(alphabet.count) + UInt64(digit)
            scale *= UInt64(alphabet.count)
            if scale == wordRadix { flush() }
        }
        if scale > 1 { flush() }
        var bytes = [UInt8](repeating: 0, count: zeros)
        bytes.reserveCapacity(zeros + words.count * 4)
        for word in words.reversed() {
            for shift in [24, 16, 8, 0] as [UInt32] {
                let byte = UInt8(truncatingIfNeeded: word >> shift)
                if byte != 0 || bytes.count > zeros { bytes.append(byte) }
            }
        }
        return bytes
    }
}

/// Each character's place in `alphabet`, 255 for the others.
func digitTable(_ alphabet: [UInt8], ignoringCase: Bool) -> [UInt8] {
    var table = [UInt8](repeating: 255, count: 256)
    for (value, character) in alphabet.enumerated() {
        table[Int(character)] = UInt8(value)
        let isLetter = (character | 0x20) >= UInt8(ascii: "a") && (character | 0x20) <= UInt8(ascii: "z")
        if ignoringCase, isLetter { table[Int(character ^ 0x20)] = UInt8(value) }
    }
    return table
}

/// A character for an error message: control characters and the parts of longer ones by their code.
func quoted(_ character: UInt8) -> String {
    character > 0x20 && character < 0x7F
        ? "\"\(Unicode.Scalar(character))\"" : "byte 0x" + String(character, radix: 16)
}
