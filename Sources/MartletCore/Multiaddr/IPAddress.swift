/// An IP address of either version.
@frozen
public enum IPAddress: Hashable, Comparable, Sendable {
    case v4(IPv4Address)
    case v6(IPv6Address)

    /// Reads `192.0.2.1` or `2001:db8::1`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let characters = ArraySlice(text.utf8)
        if let address = IPv4Address(utf8: characters) {
            self = .v4(address)
        } else if let address = IPv6Address(utf8: characters) {
            self = .v6(address)
        } else {
            return nil
        }
    }

    /// The IPv4 address inside an IPv4-mapped IPv6 address, else the address as it is.
    public var unmapped: IPAddress {
        if case .v6(let address) = self, let mapped = address.mappedIPv4 { return .v4(mapped) }
        return self
    }
}

extension IPAddress: CustomStringConvertible {
    public var description: String {
        switch self {
        case .v4(let address): address.description
        case .v6(let address): address.description
        }
    }
}

/// An IPv4 address.
@frozen
public struct IPv4Address: Hashable, Comparable, Sendable {
    /// The address as a number: 127.0.0.1 is 0x7F000001.
    public let rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    @inlinable
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        rawValue = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
    }

    /// Reads four decimal numbers. Leading zeros are refused: some systems read them as octal.
    public init?(_ text: some StringProtocol) {
        self.init(utf8: ArraySlice(text.utf8))
    }

    init?(utf8 text: ArraySlice<UInt8>) {
        guard text.count <= 15 else { return nil }
        let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard let number = decimalNumber(part, limit: 255) else { return nil }
            value = value << 8 | UInt32(number)
        }
        rawValue = value
    }

    public static let any = IPv4Address(0, 0, 0, 0)
    public static let loopback = IPv4Address(127, 0, 0, 1)

    @inlinable
    public static func < (left: IPv4Address, right: IPv4Address) -> Bool { left.rawValue < right.rawValue }

    /// Whether the first `prefixLength` bits, at most 32, are those of `network`.
    public func isIn(_ network: IPv4Address, prefixLength: Int) -> Bool {
        prefixLength <= 0 || (rawValue ^ network.rawValue) >> UInt32(32 - min(prefixLength, 32)) == 0
    }
}

extension IPv4Address: CustomStringConvertible {
    public var description: String {
        "\(rawValue >> 24).\(rawValue >> 16 & 0xFF).\(rawValue >> 8 & 0xFF).\(rawValue & 0xFF)"
    }
}

/// An IPv6 address without a zone.
@frozen
public struct IPv6Address: Hashable, Comparable, Sendable {
    /// The first 64 bits: network and subnet.
    public let high: UInt64
    /// The last 64 bits: the interface.
    public let low: UInt64

    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The IPv4-mapped address `::ffff:a.b.c.d`.
    @inlinable
    public init(mapping address: IPv4Address) {
        self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(address.rawValue))
    }

    /// Reads the forms of RFC 4291, section 2.2, without a zone.
    public init?(_ text: some StringProtocol) {
        self.init(utf8: ArraySlice(text.utf8))
    }

    public static let any = IPv6Address(high: 0, low: 0)
    public static let loopback = IPv6Address(high: 0, low: 1)

    /// The IPv4 address that this one maps (`::ffff:0:0/96`), if it does.
    @inlinable
    public var mappedIPv4: IPv4Address? {
        high == 0 && low >> 32 == 0xFFFF ? IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)) : nil
    }

    @inlinable
    public static func < (left: IPv6Address, right: IPv6Address) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    /// Whether the first `prefixLength` bits, at most 128, are those of `network`.
    public func isIn(_ network: IPv6Address, prefixLength: Int) -> Bool {
        if prefixLength <= 0 { return true }
        if prefixLength <= 64 { return (high ^ network.high) >> UInt64(64 - prefixLength) == 0 }
        return high == network.high && (low ^ network.low) >> UInt64(128 - min(prefixLength, 128)) == 0
    }
}

/// A number of decimal digits, at most `limit`, written without sign and without needless zeros.
func decimalNumber(_ text: ArraySlice<UInt8>, limit: UInt64) -> UInt64? {
    guard let first = text.first, text.count <= 20, first != UInt8(ascii: "0") || text.count == 1 else { return nil }
    var value: UInt64 = 0
    for character in text {
        guard character >= UInt8(ascii: "0"), character <= UInt8(ascii: "9") else { return nil }
        let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, carried) = scaled.addingReportingOverflow(UInt64(character - UInt8(ascii: "0")))
        if overflow || carried { return nil }
        value = sum
    }
    return value <= limit ? value : nil
}
