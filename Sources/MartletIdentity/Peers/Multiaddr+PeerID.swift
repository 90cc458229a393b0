public import MartletCore

extension Multiaddr {
    /// The peer that the whole address leads to: the `/p2p` component at its very end.
    ///
    /// Nil when the address does not end in one, as in `…/p2p/<relay>/p2p-circuit`, which names a relay only, and when
    /// the component holds a hash that is no peer id, such as an empty one.
    public var peerID: PeerID? {
        lastPeerIDBytes.flatMap { try? PeerID(bytes: $0) }
    }

    /// This address with `/p2p/<peer>` at its end; unchanged when it ends so already.
    ///
    /// - Throws: `MultiaddrError` after a unix path and beyond the limits of an address.
    public func encapsulating(peer: PeerID) throws(MultiaddrError) -> Multiaddr {
        peerID == peer ? self : try encapsulating(.p2p(peer.bytes))
    }
}
