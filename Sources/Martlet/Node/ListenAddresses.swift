import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Which addresses a listening socket is really reachable at.
enum ListenAddresses {
    /// The address itself, or, when it is the wildcard, the same port at the address of every interface.
    static func expanded(_ address: Multiaddr) -> [Multiaddr] {
        guard let ip = address.ipAddress, let port = address.port, ip == .v4(.any) || ip == .v6(.any) else {
            return [address]
        }
        let found = interfaces(isIPv4: ip == .v4(.any)).compactMap { try? Multiaddr([$0, .tcp(port)]) }
        return found.isEmpty ? [address] : found
    }

    private static func interfaces(isIPv4: Bool) -> [Multiaddr.Component] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [Multiaddr.Component] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr, entry.pointee.ifa_flags & UInt32(IFF_UP) != 0,
                let component = isIPv4 ? ip4(address) : ip6(address), !found.contains(component)
            else { continue }
            found.append(component)
        }
        return found
    }

    private static func ip4(_ address: UnsafeMutablePointer<sockaddr>) -> Multiaddr.Component? {
        guard CInt(address.pointee.sa_family) == AF_INET else { return nil }
        return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
            .ip4(IPv4Address(rawValue: UInt32(bigEndian: $0.pointee.sin_addr.s_addr)))
        }
    }

    private static func ip6(_ address: UnsafeMutablePointer<sockaddr>) -> Multiaddr.Component? {
        guard CInt(address.pointee.sa_family) == AF_INET6 else { return nil }
        return address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { pointer in
            // Link-local addresses need a zone that other machines do not share.
            guard pointer.pointee.sin6_scope_id == 0 else { return nil }
            return withUnsafeBytes(of: pointer.pointee.sin6_addr) { bytes in
                let high = bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
                let low = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                return .ip6(IPv6Address(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low)))
            }
        }
    }
}
