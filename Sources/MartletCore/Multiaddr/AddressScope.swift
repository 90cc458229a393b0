/// How far an address reaches: the one thing to know before dialing or announcing it.
///
/// From the special-purpose address registries of IANA (RFC 6890 and its updates).
public enum AddressScope: Hashable, Sendable, CaseIterable {
    /// `0.0.0.0` and `::`: no address, "any interface" when listening.
    case unspecified
    /// This machine.
    case loopback
    /// This network segment.
    case linkLocal
    /// A home or company network (RFC 1918, unique local addresses).
    case privateNetwork
    /// Shared by a provider's customers behind its NAT (RFC 6598): not reachable from outside.
    case carrierNAT
    /// A group, not a machine.
    case multicast
    /// Documentation, benchmarks and ranges never given out.
    case reserved
    /// The whole internet.
    case global
}

extension IPAddress {
    /// How far the address reaches.
    public var scope: AddressScope {
        switch self {
        case .v4(let address): address.scope
        case .v6(let address): address.scope
        }
    }
}

extension IPv4Address {
    /// How far the address reaches.
    public var scope: AddressScope {
        if rawValue == 0 { return .unspecified }
        switch rawValue >> 24 {
        case 0: return .reserved
        case 127: return .loopback
        case 10: return .privateNetwork
        case 224...239: return .multicast
        case 240...255: return .reserved
        default: break
        }
        switch rawValue >> 16 {
        case 0xA9FE: return .linkLocal  // 169.254/16
        case 0xC0A8: return .privateNetwork  // 192.168/16
        case 0xAC10...0xAC1F: return .privateNetwork  // 172.16/12
        case 0x6440...0x647F: return .carrierNAT  // 100.64/10
        case 0xC612...0xC613: return .reserved  // 198.18/15, benchmarks
        default: break
        }
        switch rawValue >> 8 {
        case 0xC00000, 0xC00002, 0xC63364, 0xCB0071: return .reserved  // protocol assignments, documentation
        default: return .global
        }
    }
}

extension IPv6Address {
    /// How far the address reaches. An address that carries an IPv4 address reaches as far as that does.
    public var scope: AddressScope {
        if high == 0 {
            if low == 0 { return .unspecified }
            if low == 1 { return .loopback }
            if let mappedIPv4 { return mappedIPv4.scope }
            return .reserved
        }
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        if high == 0x0064_FF9B_0000_0000, low >> 32 == 0 {
            return IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)).scope
        }
        if high >> 48 == 0x2002 { return IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 16)).scope }
        if high >> 48 == 0x0064 { return .privateNetwork }  // 64:ff9b:1::/48, NAT64 inside a network
        switch high >> 56 {
        case 0xFF: return .multicast
        case 0xFC, 0xFD: return .privateNetwork
        case 0xFE:
            switch high >> 54 & 3 {
            case 2: return .linkLocal  // fe80::/10
            case 3: return .privateNetwork  // fec0::/10, the site-local addresses of old
            default: return .reserved
            }
        default: break
        }
        guard high >> 61 == 1 else { return .reserved }  // global unicast is 2000::/3
        if high >> 32 == 0x2001_0DB8 || high >> 44 == 0x3FFF0 { return .reserved }  // documentation
        return .global
    }
}
