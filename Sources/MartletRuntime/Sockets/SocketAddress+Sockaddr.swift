import CCares
import CLibuv
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

// Both C libraries include the socket headers, and the compiler credits one of them with the types.

extension SocketAddress {
    var family: CInt {
        switch host {
        case .ip4: AF_INET
        case .ip6: AF_INET6
        case .unix: AF_UNIX
        }
    }

    /// The longest path that fits a `sockaddr_un`, which ends with a zero.
    static let maximumPathLength = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    /// Calls `body` with the `sockaddr` and its length; nil without calling it when a path is too long for one.
    func withSockaddr<R, E: Error>(_ body: (UnsafePointer<sockaddr>, socklen_t) throws(E) -> R) throws(E) -> R? {
        var storage = sockaddr_storage()
        let length = write(to: &storage)
        guard length > 0 else { return nil }
        return try withUnsafeMutablePointer(to: &storage) { pointer throws(E) in
            // sockaddr_storage is made to be seen as any sockaddr.
            try body(UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), length)
        }
    }

    /// The number of bytes that count; 0 when a path is empty, too long or has a zero in it.
    private func write(to storage: inout sockaddr_storage) -> socklen_t {
        withUnsafeMutableBytes(of: &storage) { memory -> socklen_t in
            switch host {
            case .ip4(let ip):
                var address = sockaddr_in()
                #if canImport(Darwin)
                    address.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
                #endif
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = port.bigEndian
                address.sin_addr.s_addr = ip.rawValue.bigEndian
                memory.storeBytes(of: address, as: sockaddr_in.self)
                return socklen_t(MemoryLayout<sockaddr_in>.size)
            case .ip6(let ip, let scope):
                var address = sockaddr_in6()
                #if canImport(Darwin)
                    address.sin6_len = UInt8(MemoryLayout<sockaddr_in6>.size)
                #endif
                address.sin6_family = sa_family_t(AF_INET6)
                address.sin6_port = port.bigEndian
                address.sin6_scope_id = scope
                withUnsafeMutableBytes(of: &address.sin6_addr) {
                    $0.storeBytes(of: ip.high.bigEndian, as: UInt64.self)
                    $0.storeBytes(of: ip.low.bigEndian, toByteOffset: 8, as: UInt64.self)
                }
                memory.storeBytes(of: address, as: sockaddr_in6.self)
                return socklen_t(MemoryLayout<sockaddr_in6>.size)
            case .unix(let path):
                let bytes = Array(path.utf8)
                guard !bytes.isEmpty, bytes.count <= Self.maximumPathLength, !bytes.contains(0) else { return 0 }
                var address = sockaddr_un()
                address.sun_family = sa_family_t(AF_UNIX)
                withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
                memory.storeBytes(of: address, as: sockaddr_un.self)
                return socklen_t(MemoryLayout<sockaddr_un>.size)
            }
        }
    }

    /// From what the system filled in; nil for families that are none of ours.
    init?(_ address: UnsafePointer<sockaddr>, length: socklen_t) {
        let raw = UnsafeRawPointer(address)
        switch CInt(address.pointee.sa_family) {
        case AF_INET where length >= socklen_t(MemoryLayout<sockaddr_in>.size):
            let address = raw.loadUnaligned(as: sockaddr_in.self)
            let ip = IPv4Address(rawValue: UInt32(bigEndian: address.sin_addr.s_addr))
            self.init(host: .ip4(ip), port: UInt16(bigEndian: address.sin_port))
        case AF_INET6 where length >= socklen_t(MemoryLayout<sockaddr_in6>.size):
            let address = raw.loadUnaligned(as: sockaddr_in6.self)
            let ip = withUnsafeBytes(of: address.sin6_addr) {
                IPv6Address(
                    high: UInt64(bigEndian: $0.load(as: UInt64.self)),
                    low: UInt64(bigEndian: $0.load(fromByteOffset: 8, as: UInt64.self)))
            }
            self.init(host: .ip6(ip, scope: address.sin6_scope_id), port: UInt16(bigEndian: address.sin6_port))
        case AF_UNIX:
            // The peer of a Unix-domain connection usually has no name.
            let start = MemoryLayout<sockaddr_un>.offset(of: \sockaddr_un.sun_path) ?? 2
            let count = max(0, min(Int(length) - start, Self.maximumPathLength))
            let path = UnsafeRawBufferPointer(start: raw + start, count: count).prefix { $0 != 0 }
            self = .unix(path: String(decoding: path, as: UTF8.self))
        default: return nil
        }
    }

    static func local(of descriptor: CInt) -> SocketAddress? {
        let (code, address) = filled { getsockname(descriptor, $0.assumingMemoryBound(to: sockaddr.self), $1) }
        return code == 0 ? address : nil
    }

    static func remote(of descriptor: CInt) -> SocketAddress? {
        let (code, address) = filled { getpeername(descriptor, $0.assumingMemoryBound(to: sockaddr.self), $1) }
        return code == 0 ? address : nil
    }

    /// What `call` returns, and the address that it stored when that is not negative.
    static func filled(
        _ call: (UnsafeMutableRawPointer, UnsafeMutablePointer<socklen_t>) -> CInt
    ) -> (CInt, SocketAddress?) {
        var storage = sockaddr_storage()
        return withUnsafeMutablePointer(to: &storage) { pointer in
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let code = call(pointer, &length)
            guard code >= 0 else { return (code, nil) }
            // sockaddr_storage is made to be seen as any sockaddr.
            let address = UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self)
            return (code, SocketAddress(address, length: length))
        }
    }
}
