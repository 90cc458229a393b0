import MartletCore
import MartletRuntime
import MartletSwarm

/// Which addresses a listening socket is really reachable at.
enum ListenAddresses {
    /// The address itself, or, when it is the wildcard, the same port at the address of every interface.
    static func expanded(_ address: Multiaddr) -> [Multiaddr] {
        guard let ip = address.ipAddress, let port = address.port, ip == .v4(.any) || ip == .v6(.any) else {
            return [address]
        }
        let found = NetworkInterfaces.addresses().filter { $0.isIP4 == (ip == .v4(.any)) }
            .compactMap { address.isDialableQUIC ? $0.with(port: port).quicMultiaddr : $0.with(port: port).multiaddr }
        return found.isEmpty ? [address] : found
    }
}
