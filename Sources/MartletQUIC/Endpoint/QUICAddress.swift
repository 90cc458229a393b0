import CNgtcp2
public import MartletCore

/// Where a datagram comes from or goes to.
public struct QUICAddress: Hashable, Sendable, CustomStringConvertible {
    public var ip: IPAddress
    public var port: UInt16
    /// The number of the interface of a link-local address, else 0.
    public var scope: UInt32

    public init(_ ip: IPAddress, port: UInt16, scope: UInt32 = 0) {
        self.ip = ip
        self.port = port
        self.scope = scope
    }

    public var description: String {
        switch ip {
        case .v4(let address): "\(address):\(port)"
        case .v6(let address): scope == 0 ? "[\(address)]:\(port)" : "[\(address)%\(scope)]:\(port)"
        }
    }

    init(_ raw: mq_address) {
        port = raw.port
        scope = raw.scope
        ip =
            raw.is_ip6 != 0
            ? .v6(IPv6Address(high: raw.high, low: raw.low))
            : .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: raw.low)))
    }

    var raw: mq_address {
        switch ip {
        case .v4(let address):
            mq_address(high: 0, low: UInt64(address.rawValue), scope: 0, port: port, is_ip6: 0)
        case .v6(let address):
            mq_address(high: address.high, low: address.low, scope: scope, port: port, is_ip6: 1)
        }
    }
}
