public import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where a socket is or goes: an IP address with a port, or the path of a Unix-domain socket.
///
///     SocketAddress("127.0.0.1:4001"), SocketAddress("[::1]:0"), SocketAddress("[fe80::1%2]:9"), SocketAddress("/run/m.sock")
public struct SocketAddress: Hashable, Sendable {
    public enum Host: Hashable, Sendable {
        case ip4(IPv4Address)
        /// The scope is the number of the interface of a link-local address, else 0.
        case ip6(IPv6Address, scope: UInt32)
        case unix(path: String)
    }

    public var host: Host
    /// Zero for a Unix-domain socket, or to let the system choose when binding.
    public var port: UInt16

    public init(host: Host, port: UInt16 = 0) {
        self.host = host
        self.port = port
    }

    public init(_ address: IPAddress, port: UInt16, scope: UInt32 = 0) {
        switch address {
        case .v4(let address): self.init(host: .ip4(address), port: port)
        case .v6(let address): self.init(host: .ip6(address, scope: scope), port: port)
        }
    }

    public static func ip4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) -> SocketAddress {
        SocketAddress(host: .ip4(IPv4Address(a, b, c, d)), port: port)
    }

    public static func unix(path: String) -> SocketAddress { SocketAddress(host: .unix(path: path)) }
    public static func loopback(port: UInt16) -> SocketAddress { SocketAddress(host: .ip4(.loopback), port: port) }

    /// Reads `1.2.3.4:5`, `[::1]:5`, `[fe80::1%2]:5` or, when there is a slash in front, the path of a Unix-domain socket.
    public init?(_ text: String) {
        if text.hasPrefix("/") {
            self = .unix(path: text)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let portText = text[text.index(after: colon)...]
        guard portText.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let port = UInt16(portText) else { return nil }
        let hostText = text[..<colon]
        let isBracketed = hostText.hasPrefix("[") && hostText.hasSuffix("]")
        let numeric = isBracketed ? hostText.dropFirst().dropLast() : hostText
        guard let address = SocketAddress(numericHost: String(numeric), port: port), address.isIP6 == isBracketed
        else { return nil }
        self = address
    }

    /// From a numeric address without its port: `1.2.3.4`, `::1`, `fe80::1%2`, `fe80::1%eth0`.
    public init?(numericHost text: String, port: UInt16) {
        guard let percent = text.firstIndex(of: "%") else {
            guard let address = IPAddress(text) else { return nil }
            self.init(address, port: port)
            return
        }
        guard let address = IPv6Address(text[..<percent]),
            let scope = Self.scope(String(text[text.index(after: percent)...]))
        else { return nil }
        self.init(host: .ip6(address, scope: scope), port: port)
    }

    /// The number of an interface, from that or from its name.
    static func scope(_ zone: String) -> UInt32? {
        guard !zone.isEmpty, !zone.utf8.contains(0) else { return nil }
        let number = UInt32(zone) ?? UInt32(if_nametoindex(zone))
        return number == 0 ? nil : number
    }

    public var isIP4: Bool { if case .ip4 = host { true } else { false } }
    public var isIP6: Bool { if case .ip6 = host { true } else { false } }
    public var isUnix: Bool { if case .unix = host { true } else { false } }
    public var unixPath: String? { if case .unix(let path) = host { path } else { nil } }

    /// The address alone; nil for a Unix-domain socket.
    public var ipAddress: IPAddress? {
        switch host {
        case .ip4(let address): .v4(address)
        case .ip6(let address, _): .v6(address)
        case .unix: nil
        }
    }

    /// 127.0.0.0/8, ::1 or a Unix-domain socket.
    public var isLoopback: Bool {
        switch host {
        case .ip4(let address): address.rawValue >> 24 == 127
        case .ip6(let address, _): address == .loopback
        case .unix: true
        }
    }

    /// 0.0.0.0 or ::, which stand for every address of the machine.
    public var isUnspecified: Bool {
        switch host {
        case .ip4(let address): address == .any
        case .ip6(let address, _): address == .any
        case .unix: false
        }
    }

    public func with(port: UInt16) -> SocketAddress { SocketAddress(host: host, port: port) }

    /// The host without the port, as text.
    public var hostText: String {
        switch host {
        case .ip4(let address): address.description
        case .ip6(let address, let scope): scope == 0 ? address.description : "\(address)%\(scope)"
        case .unix(let path): path
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
