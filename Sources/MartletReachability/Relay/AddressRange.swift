public import MartletCore

/// A block of neighbouring IP addresses: what limits against one attacker with many identities count.
public struct AddressRange: Hashable, Sendable {
    private let prefix: UInt64
    private let isIPv6: Bool

    /// The range of an address; nil for those that do not count, which are loopback and what is no IP address.
    ///
    /// - Parameters:
    ///   - ipv4Length: leading bits of an IPv4 address that make a range, 0 to 32.
    ///   - ipv6Length: leading bits of an IPv6 address, 0 to 64.
    public init?(of address: Multiaddr, ipv4Length: Int, ipv6Length: Int) {
        guard let ip = address.ipAddress?.unmapped, ip.scope != .loopback else { return nil }
        switch ip {
        case .v4(let address):
            prefix = UInt64(address.rawValue) & ~(UInt64(UInt32.max) >> UInt64(min(max(ipv4Length, 0), 32)))
            isIPv6 = false
        case .v6(let address):
            prefix = ipv6Length >= 64 ? address.high : address.high & ~(UInt64.max >> UInt64(max(ipv6Length, 0)))
            isIPv6 = true
        }
    }
}
