public import MartletCore

extension Multiaddr {
    /// The address without the peer id at its end.
    public var withoutPeerID: Multiaddr {
        if case .p2p? = last { droppingLast() ?? self } else { self }
    }

    /// The host part alone, which is what limits per address count.
    var host: Multiaddr {
        guard let first = components.first(where: { _ in true }) else { return self }
        return (try? Multiaddr([first])) ?? self
    }

    var isIPv6: Bool { first(.ip6) != nil }

    /// Whether names have to be looked up before anything can be dialed.
    public var needsResolution: Bool { domainName != nil }

    /// Whether it names a TCP port or a Unix socket, and nothing on top of it that we do not speak.
    public var isDialableStream: Bool {
        let codes = withoutPeerID.protocolCodes
        return codes == [.ip4, .tcp] || codes == [.ip6, .tcp] || codes == [.ip6zone, .ip6, .tcp] || codes == [.unix]
    }

    /// Whether it names a UDP port with QUIC v1, and nothing on top of it.
    public var isDialableQUIC: Bool {
        let codes = withoutPeerID.protocolCodes
        return codes == [.ip4, .udp, .quicV1] || codes == [.ip6, .udp, .quicV1]
            || codes == [.ip6zone, .ip6, .udp, .quicV1]
    }

    /// Whether it leads through one relay that is named.
    public var isDialableCircuit: Bool { (try? CircuitAddress(self)) != nil }
}
