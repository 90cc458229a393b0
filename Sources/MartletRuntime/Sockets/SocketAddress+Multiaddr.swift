public import MartletCore

extension SocketAddress {
    /// The socket under a multiaddr: its leading `/ip4/…/tcp/…`, `/ip6/…/udp/…` (with a zone in front or not) or `/unix/…`.
    /// What follows is not looked at. Nil when the address begins otherwise, as with a name.
    public init?(_ address: Multiaddr) {
        var components = address.components.makeIterator()
        guard var first = components.next() else { return nil }
        if case .unix(let path) = first {
            self = .unix(path: path)
            return
        }
        var scope: UInt32 = 0
        if case .ip6zone(let zone) = first {
            guard let number = Self.scope(zone), let next = components.next() else { return nil }
            scope = number
            first = next
        }
        let host: Host
        switch first {
        case .ip4(let ip) where scope == 0: host = .ip4(ip)
        case .ip6(let ip): host = .ip6(ip, scope: scope)
        default: return nil
        }
        switch components.next() {
        case .tcp(let port), .udp(let port): self.init(host: host, port: port)
        default: return nil
        }
    }

    /// The address as a multiaddr with TCP, or of a Unix-domain socket.
    ///
    /// - Throws: when a path is empty or too long for a multiaddr.
    public func tcpMultiaddr() throws(MultiaddrError) -> Multiaddr { try multiaddr(.tcp(port)) }

    /// The address as a multiaddr with UDP.
    public func udpMultiaddr() throws(MultiaddrError) -> Multiaddr { try multiaddr(.udp(port)) }

    private func multiaddr(_ transport: Multiaddr.Component) throws(MultiaddrError) -> Multiaddr {
        switch host {
        case .ip4(let ip): try Multiaddr([.ip4(ip), transport])
        case .ip6(let ip, 0): try Multiaddr([.ip6(ip), transport])
        case .ip6(let ip, let scope): try Multiaddr([.ip6zone("\(scope)"), .ip6(ip), transport])
        case .unix(let path): try Multiaddr([.unix(path)])
        }
    }
}
