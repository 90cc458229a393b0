import MartletCore
import MartletIdentity
import MartletSwarm

/// Which addresses a node may tell its peers because it was told to.
enum AnnounceAddresses {
    /// `addresses` as they are told: without the node's id at the end, each once, `limit` at most.
    ///
    /// - Throws: `MartletError` with `.invalidArgument` for an address that nobody could dial, or that is another peer's.
    static func checked(_ addresses: [Multiaddr], of peer: PeerID) throws(MartletError) -> [Multiaddr] {
        var checked: [Multiaddr] = []
        for address in addresses {
            let bare = address.withoutPeerID
            guard bare.isDialable, bare.port != 0 else {
                throw MartletError(.invalidArgument, "\(address) cannot be announced: nobody could dial it")
            }
            guard address.peerID == nil || address.peerID == peer else {
                throw MartletError(.invalidArgument, "\(address) cannot be announced: it is not this node's")
            }
            if !checked.contains(bare) { checked.append(bare) }
        }
        guard checked.count <= limit else {
            throw MartletError(.invalidArgument, "\(checked.count) addresses to announce; at most \(limit) can be")
        }
        return checked
    }

    /// As many as a relay tells its clients.
    static let limit = 16
}

extension Multiaddr {
    /// Whether it can be dialed directly, if need be after looking up its name.
    fileprivate var isDialable: Bool {
        guard needsResolution else { return isDialableStream || isDialableQUIC }
        let rest = protocolCodes.dropFirst()
        return rest.elementsEqual([.tcp]) || rest.elementsEqual([.udp, .quicV1])
    }
}
