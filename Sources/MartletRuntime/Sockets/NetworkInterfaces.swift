#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The addresses of this machine.
public enum NetworkInterfaces {
    /// The IP address of every interface that is up, without link-local ones, which mean nothing to other machines.
    public static func addresses() -> [SocketAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let raw = entry.pointee.ifa_addr, entry.pointee.ifa_flags & UInt32(IFF_UP) != 0,
                let address = SocketAddress(raw, length: socklen_t(MemoryLayout<sockaddr_storage>.size)),
                !address.isUnix,
                !found.contains(address)
            else { continue }
            if case .ip6(_, let scope) = address.host, scope != 0 { continue }
            found.append(address)
        }
        return found
    }
}
