extension IPv6Address {
    init?(utf8 text: ArraySlice<UInt8>) {
        let colon = UInt8(ascii: ":")
        guard text.count >= 2, text.count <= 45 else { return nil }
        var groups: [UInt16] = []
        // Where "::" stands: before the group of this index.
        var gap: Int?
        var index = text.startIndex
        if text[index] == colon {
            guard text[index + 1] == colon else { return nil }
            gap = 0
            index += 2
        }
        while index < text.endIndex {
            let end = text[index...].firstIndex(of: colon) ?? text.endIndex
            let part = text[index..<end]
            if part.contains(UInt8(ascii: ".")) {
                // The last 32 bits may be written as an IPv4 address.
                guard end == text.endIndex, let address = IPv4Address(utf8: part) else { return nil }
                groups.append(UInt16(address.rawValue >> 16))
                groups.append(UInt16(address.rawValue & 0xFFFF))
                break
            }
            guard let group = hexadecimalGroup(part), groups.count < 8 else { return nil }
            groups.append(group)
            if end == text.endIndex { break }
            index = end + 1
            guard index < text.endIndex else { return nil }
            if text[index] == colon {
                guard gap == nil else { return nil }
                gap = groups.count
                index += 1
            }
        }
        if let gap {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: repeatElement(0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        self.init(
            high: groups[..<4].reduce(0) { $0 << 16 | UInt64($1) },
            low: groups[4...].reduce(0) { $0 << 16 | UInt64($1) })
    }
}

extension IPv6Address: CustomStringConvertible {
    /// The canonical text of RFC 5952: lower case, the longest run of zeros as `::`, mapped IPv4 addresses in decimals.
    public var description: String {
        if let mappedIPv4 { return "::ffff:\(mappedIPv4)" }
        let groups = (0..<8).map { index in
            UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64(48 - 16 * (index % 4)))
        }
        // Section 4.2: the longest run, the first of several, and never a single group.
        var longest = 0..<0
        var index = 0
        while index < 8 {
            var end = index
            while end < 8, groups[end] == 0 { end += 1 }
            if end - index > max(longest.count, 1) { longest = index..<end }
            index = end + 1
        }
        func text(_ range: Range<Int>) -> String {
            groups[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        return longest.isEmpty ? text(0..<8) : text(0..<longest.lowerBound) + "::" + text(longest.upperBound..<8)
    }
}

private func hexadecimalGroup(_ text: ArraySlice<UInt8>) -> UInt16? {
    guard !text.isEmpty, text.count <= 4 else { return nil }
    var value: UInt16 = 0
    for character in text {
        guard let digit = hexadecimalDigit(character) else { return nil }
        value = value << 4 | UInt16(digit)
    }
    return value
}

func hexadecimalDigit(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
}
