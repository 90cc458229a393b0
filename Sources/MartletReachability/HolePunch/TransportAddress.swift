public import MartletCore

/// An IP address and a port, as in STUN and ICE (RFC 8489, section 4).
public struct TransportAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var ip: IPAddress
    public var port: UInt16

    public init(_ ip: IPAddress, port: UInt16) {
        self.ip = ip.unmapped
        self.port = port
    }

    /// The UDP socket of a QUIC address; nil for any other kind of address.
    public init?(quic address: Multiaddr) {
        let codes = address.protocolCodes
        guard codes.starts(with: [.ip4, .udp, .quicV1]) || codes.starts(with: [.ip6, .udp, .quicV1]),
            !address.isCircuit, let ip = address.ipAddress, let port = address.port
        else { return nil }
        self.init(ip, port: port)
    }

    /// The socket of a plain TCP address; nil for any other kind of address.
    public init?(tcp address: Multiaddr) {
        let codes = address.protocolCodes.filter { $0 != .p2p }
        guard codes == [.ip4, .tcp] || codes == [.ip6, .tcp], let ip = address.ipAddress, let port = address.port
        else { return nil }
        self.init(ip, port: port)
    }

    public var isIPv4: Bool { if case .v4 = ip { true } else { false } }

    /// Whether a peer may have packets sent there: a port of a machine on the internet.
    public var isPublic: Bool { ip.scope == .global && port != 0 }

    /// Whether it is in a home or company network.
    public var isPrivate: Bool { ip.scope == .privateNetwork && port != 0 }

    /// The address for QUIC.
    public var quicMultiaddr: Multiaddr { multiaddr([.udp(port), .quicV1]) }

    /// The address for TCP.
    public var tcpMultiaddr: Multiaddr { multiaddr([.tcp(port)]) }

    private func multiaddr(_ transport: [Multiaddr.Component]) -> Multiaddr {
        let host: Multiaddr.Component =
            switch ip {
            case .v4(let address): .ip4(address)
            case .v6(let address): .ip6(address)
            }
        guard let address = try? Multiaddr([host] + transport) else { preconditionFailure("an address without text") }
        return address
    }

    public static func < (left: TransportAddress, right: TransportAddress) -> Bool {
        (left.ip, left.port) < (right.ip, right.port)
    }

    public var description: String {
        switch ip {
        case .v4(let address): "\(address):\(port)"
        case .v6(let address): "[\(address)]:\(port)"
        }
    }
}

extension IPAddress {
    /// Whether both are likely on one local network: the same /24, or /64.
    func isNear(_ other: IPAddress) -> Bool {
        switch (self, other) {
        case (.v4(let left), .v4(let right)): left.isIn(right, prefixLength: 24)
        case (.v6(let left), .v6(let right)): left.isIn(right, prefixLength: 64)
        case (.v4, .v6), (.v6, .v4): false
        }
    }
}
