import MartletCore
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

    /// The multiaddr of a stream socket's address; nil for a Unix socket without a name.
    var multiaddr: Multiaddr? { try? tcpMultiaddr() }
}
