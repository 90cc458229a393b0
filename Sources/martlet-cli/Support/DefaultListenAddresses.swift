import Martlet
import MartletRuntime

/// Where commands accept connections when nobody says otherwise: TCP and QUIC on every address of the machine.
enum DefaultListenAddresses {
    /// - Parameter port: of both TCP and UDP; 0 takes free ones.
    static func at(port: Int) throws -> [Multiaddr] {
        // A kernel may lack IPv6 or have it turned off.
        let hasIPv6 = NetworkInterfaces.addresses().contains { !$0.isIP4 }
        let hosts = ["/ip4/0.0.0.0"] + (hasIPv6 ? ["/ip6/::"] : [])
        return try hosts.flatMap {
            [try Multiaddr("\($0)/tcp/\(port)"), try Multiaddr("\($0)/udp/\(port)/quic-v1")]
        }
    }
}
