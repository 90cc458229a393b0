import CCares
import CLibuv

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

// Both C libraries include the socket headers, and the compiler credits one of them with the types.

/// Where a socket is or goes: an IP address with a port, or the path of a Unix-domain socket.
///
///     SocketAddress("127.0.0.1:4001"), SocketAddress("[::1]:0"), SocketAddress("[fe80::1%2]:9"), SocketAddress("/run/m.sock")
public struct SocketAddress: Hashable, Sendable {
    public enum Host: Hashable, Sendable {
        /// The address as a number: 127.0.0.1 is 0x7F000001.
        case ip4(UInt32)
        /// The two halves of the address as numbers, and the interface of a link-local one.
        case ip6(UInt64, UInt64, scope: UInt32)
        case unix(path: String)
    }

    public var host: Host
    /// Zero for a Unix-domain socket, or to let the system choose when binding.
    public var port: UInt16

    public init(host: Host, port: UInt16 = 0) {
        self.host = host
        self.port = port
    }

    public static func ip4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) -> SocketAddress {
        SocketAddress(host: .ip4(UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)), port: port)
    }

    public static func unix(path: String) -> SocketAddress { SocketAddress(host: .unix(path: path)) }
    public static func loopback(port: UInt16) -> SocketAddress { .ip4(127, 0, 0, 1, port: port) }

    /// From the 4 or 16 bytes of an IP address in network order; nil for any other number of bytes.
    public init?(ipBytes: some Collection<UInt8>, port: UInt16, scope: UInt32 = 0) {
        func number(_ bytes: some Sequence<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        switch ipBytes.count {
        case 4: self.init(host: .ip4(UInt32(number(ipBytes))), port: port)
        case 16:
            let high = number(ipBytes.prefix(8))
            self.init(host: .ip6(high, number(ipBytes.dropFirst(8)), scope: scope), port: port)
        default: return nil
        }
    }

    /// The bytes of an IP address in network order; nil for a Unix-domain socket.
    public var ipBytes: [UInt8]? {
        switch host {
        case .ip4(let number): withUnsafeBytes(of: number.bigEndian) { Array($0) }
        case .ip6(let high, let low, _):
            withUnsafeBytes(of: high.bigEndian) { Array($0) } + withUnsafeBytes(of: low.bigEndian) { Array($0) }
        case .unix: nil
        }
    }

    /// Reads `1.2.3.4:5`, `[::1]:5`, `[fe80::1%2]:5` or, when there is a slash in front, the path of a Unix-domain socket.
    public init?(_ text: String) {
        if text.hasPrefix("/") {
            self = .unix(path: text)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let portText = text[text.index(after: colon)...]
        guard let port = UInt16(portText), portText.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
        var hostText = text[..<colon]
        if hostText.hasPrefix("["), hostText.hasSuffix("]"), hostText.count > 2 {
            hostText = hostText.dropFirst().dropLast()
            guard hostText.contains(":") else { return nil }
        } else if hostText.contains(":") {
            return nil
        }
        guard let address = SocketAddress(numericHost: String(hostText), port: port) else { return nil }
        self = address
    }

    /// From a numeric address without its port: `1.2.3.4`, `::1`, `fe80::1%2`.
    public init?(numericHost text: String, port: UInt16) {
        guard !text.utf8.contains(0) else { return nil }
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(host: .ip4(UInt32(bigEndian: four.s_addr)), port: port)
            return
        }
        var bare = text[...]
        var scope: UInt32 = 0
        if let percent = bare.firstIndex(of: "%") {
            let zone = String(bare[bare.index(after: percent)...])
            scope = UInt32(zone) ?? UInt32(if_nametoindex(zone))
            guard scope != 0 else { return nil }
            bare = bare[..<percent]
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, String(bare), &six) == 1 else { return nil }
        let bytes = withUnsafeBytes(of: six) { Array($0) }
        self.init(ipBytes: bytes, port: port, scope: scope)
    }

    public var isIP4: Bool { if case .ip4 = host { true } else { false } }
    public var isIP6: Bool { if case .ip6 = host { true } else { false } }
    public var isUnix: Bool { if case .unix = host { true } else { false } }
    public var unixPath: String? { if case .unix(let path) = host { path } else { nil } }

    /// 127.0.0.0/8, ::1 or a Unix-domain socket.
    public var isLoopback: Bool {
        switch host {
        case .ip4(let number): number >> 24 == 127
        case .ip6(let high, let low, _): high == 0 && low == 1
        case .unix: true
        }
    }

    /// 0.0.0.0 or ::, which stand for every address of the machine.
    public var isUnspecified: Bool {
        switch host {
        case .ip4(let number): number == 0
        case .ip6(let high, let low, _): high == 0 && low == 0
        case .unix: false
        }
    }

    public func with(port: UInt16) -> SocketAddress { SocketAddress(host: host, port: port) }

    /// The host without the port, as text.
    public var hostText: String {
        switch host {
        case .ip4(let number): return "\(number >> 24).\(number >> 16 & 0xFF).\(number >> 8 & 0xFF).\(number & 0xFF)"
        case .ip6(_, _, let scope):
            var text = [CChar](repeating: 0, count: 64)
            let bytes = ipBytes ?? []
            let length = bytes.withUnsafeBytes { bytes in
                inet_ntop(AF_INET6, bytes.baseAddress, &text, 64) == nil ? 0 : strlen(text)
            }
            let bare = String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return scope == 0 ? bare : "\(bare)%\(scope)"
        case .unix(let path): return path
        }
    }
}

extension SocketAddress: CustomStringConvertible {
    public var description: String {
        switch host {
        case .ip4: "\(hostText):\(port)"
        case .ip6: "[\(hostText)]:\(port)"
        case .unix(let path): path
        }
    }
}

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

    /// The number of bytes that count; 0 when a path is too long.
    func write(to storage: inout sockaddr_storage) -> socklen_t {
        withUnsafeMutableBytes(of: &storage) { memory -> socklen_t in
            switch host {
            case .ip4(let number):
                var address = sockaddr_in()
                #if canImport(Darwin)
                    address.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
                #endif
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = port.bigEndian
                address.sin_addr.s_addr = number.bigEndian
                memory.storeBytes(of: address, as: sockaddr_in.self)
                return socklen_t(MemoryLayout<sockaddr_in>.size)
            case .ip6(let high, let low, let scope):
                var address = sockaddr_in6()
                #if canImport(Darwin)
                    address.sin6_len = UInt8(MemoryLayout<sockaddr_in6>.size)
                #endif
                address.sin6_family = sa_family_t(AF_INET6)
                address.sin6_port = port.bigEndian
                address.sin6_scope_id = scope
                withUnsafeMutableBytes(of: &address.sin6_addr) {
                    $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                    $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
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
            self.init(host: .ip4(UInt32(bigEndian: address.sin_addr.s_addr)), port: UInt16(bigEndian: address.sin_port))
        case AF_INET6 where length >= socklen_t(MemoryLayout<sockaddr_in6>.size):
            let address = raw.loadUnaligned(as: sockaddr_in6.self)
            let (high, low) = withUnsafeBytes(of: address.sin6_addr) {
                (UInt64(bigEndian: $0.load(as: UInt64.self)),
                 UInt64(bigEndian: $0.load(fromByteOffset: 8, as: UInt64.self)))
            }
            self.init(
                host: .ip6(high, low, scope: address.sin6_scope_id), port: UInt16(bigEndian: address.sin6_port))
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
