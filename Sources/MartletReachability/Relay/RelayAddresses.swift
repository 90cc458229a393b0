public import MartletCore
public import MartletIdentity

/// The addresses that a relay tells its clients, which announce them with themselves behind.
public enum RelayAddresses {
    private static let byteLimit = 2048

    /// Those of `addresses` that reach as far as the client's own, each with the relay's id: nobody on the internet can use
    /// the address of a relay in somebody's private network. Without any such, all of them.
    public static func told(_ addresses: [Multiaddr], relay: PeerID, to client: Multiaddr) -> [Multiaddr] {
        let direct = addresses.filter { !$0.isCircuit }
        let reach = reach(of: client)
        let useful = direct.filter { Self.reach(of: $0) >= reach }
        var told: [Multiaddr] = []
        var byteCount = 0
        // The farthest first, for a client may announce only a few.
        for address in (useful.isEmpty ? direct : useful).sorted(by: { Self.reach(of: $0) > Self.reach(of: $1) }) {
            guard told.count < Circuit.addressLimit, let whole = try? address.encapsulating(peer: relay) else {
                continue
            }
            byteCount += whole.bytes.count
            guard byteCount <= byteLimit else { break }
            told.append(whole)
        }
        return told
    }

    private static func reach(of address: Multiaddr) -> Int {
        // Who gives a node a name wants it found.
        if address.domainName != nil { return 3 }
        return switch address.scope {
        case .loopback, .unspecified: 0
        case .linkLocal: 1
        case .privateNetwork, .carrierNAT: 2
        case .global: 3
        case .multicast, .reserved, nil: 0
        }
    }
}
