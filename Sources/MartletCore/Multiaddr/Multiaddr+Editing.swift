extension Multiaddr {
    /// The address with one more component at its end.
    ///
    /// - Throws: `MultiaddrError` when the component's value is not possible, after a unix path, or beyond the limits.
    public func encapsulating(_ component: Component) throws(MultiaddrError) -> Multiaddr {
        try Multiaddr(Array(components) + [component])
    }

    /// This address, then `inner`: what is reached through it.
    ///
    /// - Throws: `MultiaddrError` after a unix path and beyond the limits.
    public func encapsulating(_ inner: Multiaddr) throws(MultiaddrError) -> Multiaddr {
        try Multiaddr(Array(components) + Array(inner.components))
    }

    /// The address without its last `count` components; nil when nothing would be left.
    public func droppingLast(_ count: Int = 1) -> Multiaddr? {
        let starts = rawComponents.map(\.start)
        guard count > 0 else { return self }
        guard count < starts.count else { return nil }
        return Multiaddr(checked: Array(bytes[..<starts[starts.count - count]]))
    }

    /// What stands before the first component with `code`; nil when that is nothing. All of it without such a component.
    public func prefix(before code: ProtocolCode) -> Multiaddr? {
        guard let part = rawComponents.first(where: { $0.code == code }) else { return self }
        return part.start > 0 ? Multiaddr(checked: Array(bytes[..<part.start])) : nil
    }

    /// What stands after the first component with `code`; nil when that is nothing.
    public func suffix(after code: ProtocolCode) -> Multiaddr? {
        guard let part = rawComponents.first(where: { $0.code == code }), part.value.upperBound < bytes.count else {
            return nil
        }
        return Multiaddr(checked: Array(bytes[part.value.upperBound...]))
    }

    /// The address with its first port replaced: a listening address whose port 0 became a real one.
    public func replacingPort(_ port: UInt16) -> Multiaddr {
        guard let part = rawComponents.first(where: { $0.code == .tcp || $0.code == .udp }) else { return self }
        var copy = bytes
        copy[part.value.lowerBound] = UInt8(port >> 8)
        copy[part.value.lowerBound + 1] = UInt8(port & 0xFF)
        return Multiaddr(checked: copy)
    }

    /// The address with the IP part that it begins with replaced, zone included; nil when it begins with another kind of part
    /// or with an IP address of the other version.
    public func replacingIP(_ ip: IPAddress) -> Multiaddr? {
        guard let old = ipAddress else { return nil }
        let host: Component
        switch (old, ip) {
        case (.v4, .v4(let ip)): host = .ip4(ip)
        case (.v6, .v6(let ip)): host = .ip6(ip)
        case (.v4, .v6), (.v6, .v4): return nil
        }
        let rest = components.drop {
            switch $0 {
            case .ip4, .ip6, .ip6zone: true
            default: false
            }
        }
        return try? Multiaddr([host] + rest)
    }
}
