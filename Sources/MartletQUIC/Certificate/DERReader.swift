/// Reads DER (ITU-T X.690), as much of it as certificates need: tags of one byte and definite lengths.
struct DERReader {
    /// One element: its tag, all its bytes, and its content.
    struct Element {
        let tag: UInt8
        let bytes: ArraySlice<UInt8>
        let content: ArraySlice<UInt8>

        var reader: DERReader { DERReader(content) }
    }

    enum Tag {
        static let boolean: UInt8 = 0x01
        static let bitString: UInt8 = 0x03
        static let octetString: UInt8 = 0x04
        static let objectIdentifier: UInt8 = 0x06
        static let sequence: UInt8 = 0x30
        /// The optional parts of a certificate, each with a number of its own.
        static func context(_ number: UInt8) -> UInt8 { 0xA0 | number }
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    var isAtEnd: Bool { rest.isEmpty }

    /// The tag of the next element.
    var nextTag: UInt8? { rest.first }

    /// The next element; nil when there is none, or it is not DER.
    mutating func next() -> Element? {
        let start = rest.startIndex
        guard rest.count >= 2 else { return nil }
        let tag = rest[start]
        // Tags of several bytes do not occur in certificates.
        guard tag & 0x1F != 0x1F, let (length, headerCount) = length(at: start + 1) else { return nil }
        let contentStart = start + 1 + headerCount
        guard length <= rest.endIndex - contentStart else { return nil }
        let end = contentStart + length
        defer { rest = rest[end...] }
        return Element(tag: tag, bytes: rest[start..<end], content: rest[contentStart..<end])
    }

    /// The next element if it has this tag; nil otherwise.
    mutating func next(_ tag: UInt8) -> Element? {
        guard nextTag == tag else { return nil }
        return next()
    }

    /// A length and how many bytes it takes; at most 16 MiB, and only in the shortest form.
    private func length(at position: Int) -> (Int, Int)? {
        let first = Int(rest[position])
        if first < 0x80 { return (first, 1) }
        let count = first & 0x7F
        guard (1...3).contains(count), rest.endIndex - position > count else { return nil }
        let value = rest[(position + 1)...(position + count)].reduce(0) { $0 << 8 | Int($1) }
        let isShortest = value >= 0x80 && value >= 1 << (8 * (count - 1))
        return isShortest ? (value, 1 + count) : nil
    }
}

/// Writes DER elements with up to 64 KiB of content.
enum DERWriter {
    static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        precondition(content.count < 1 << 16, "an element of \(content.count) bytes")
        let count = content.count
        let length: [UInt8] =
            if count < 0x80 {
                [UInt8(count)]
            } else if count < 0x100 {
                [0x81, UInt8(count)]
            } else {
                [0x82, UInt8(count >> 8), UInt8(count & 0xFF)]
            }
        return [tag] + length + content
    }
}
