import CPortMapping
import MartletCore
import MartletRuntime

/// Which of this machine's addresses packets leave from.
enum LocalAddresses {
    /// An address of this machine, other than the one that a socket bound to `bound` sends from to `remote`, that reaches as far:
    /// what comes from there comes from a stranger in the eyes of who talks to this one. Nil for most machines, which have one.
    ///
    /// - Parameter remote: nil for anybody on the internet.
    static func alternate(to bound: IPAddress, towards remote: IPAddress?) -> IPAddress? {
        guard let used = bound.scope == .unspecified ? source(towards: remote) : bound,
            used.scope == .global
        else { return nil }
        let others = NetworkInterfaces.addresses().compactMap { $0.ipAddress?.unmapped }.filter {
            $0 != used && $0.scope == .global && $0.isIP4 == used.isIP4
        }
        // Of another network rather: some NATs know addresses of one network as one.
        return others.first { $0.network != used.network } ?? others.first
    }

    /// Whether a socket bound there has an address that others than this machine can send to, by a NAT if need be.
    static func hasAddress(at listener: Multiaddr) -> Bool {
        guard let bound = listener.ipAddress else { return false }
        let own = bound.scope == .unspecified ? NetworkInterfaces.addresses().compactMap { $0.ipAddress } : [bound]
        return own.contains { ip in
            guard ip.isIP4 == bound.isIP4 else { return false }
            switch ip.scope {
            case .global: return true
            // There are NATs of IPv4 everywhere, of IPv6 hardly any.
            case .privateNetwork, .carrierNAT: return ip.isIP4
            case .unspecified, .loopback, .linkLocal, .multicast, .reserved: return false
            }
        }
    }

    /// An address that nobody has (RFC 5737), behind the default route.
    private static let anybody = IPv4Address(192, 0, 2, 1)

    /// The address that packets to `remote` leave from, nil for anybody on the internet. By IPv6 it depends on more than the route,
    /// and is not known.
    static func source(towards remote: IPAddress?) -> IPAddress? {
        guard case .v4(let ip) = remote ?? .v4(anybody) else { return nil }
        var source: UInt32 = 0
        guard martlet_source_address(ip.rawValue.bigEndian, &source) == 0 else { return nil }
        return .v4(IPv4Address(rawValue: UInt32(bigEndian: source)))
    }
}

extension IPAddress {
    var isIP4: Bool { if case .v4 = self { true } else { false } }
}
