import MartletCore
import MartletQUIC
import MartletRuntime

extension SocketAddress {
    /// The IP address as part of a multiaddr.
    var hostComponent: Multiaddr.Component? {
        switch host {
        case .ip4(let ip): .ip4(ip)
        case .ip6(let ip, _): .ip6(ip)
        case .unix: nil
        }
    }

    /// The multiaddr of QUIC at this address; nil for a Unix socket.
    var quicMultiaddr: Multiaddr? {
        guard !isUnix, let address = try? udpMultiaddr() else { return nil }
        return try? Multiaddr(Array(address.components) + [.quicV1])
    }

    /// As QUIC names it; nil for a Unix socket.
    var quicAddress: QUICAddress? {
        switch host {
        case .ip4(let ip): QUICAddress(.v4(ip), port: port)
        case .ip6(let ip, let scope): QUICAddress(.v6(ip), port: port, scope: scope)
        case .unix: nil
        }
    }

    init(_ address: QUICAddress) {
        self.init(address.ip, port: address.port, scope: address.scope)
    }

    /// The multiaddr of a stream socket's address; nil for a Unix socket without a name.
    var multiaddr: Multiaddr? { try? tcpMultiaddr() }
}
