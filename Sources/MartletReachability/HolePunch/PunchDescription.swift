import MartletCore

/// What one side of a punch tells the other: where it may be found and how its NAT behaves.
public struct PunchDescription: Hashable, Sendable {
    /// UDP addresses of the socket that QUIC uses, as others see it and as it is, the likeliest first.
    public var udp: [TransportAddress]
    /// The same for the port that TCP listens on.
    public var tcp: [TransportAddress]
    /// How the NAT in front of the IPv4 UDP socket behaves.
    public var nat: NATKind
    /// The IPv4 port that the NAT is expected to give the next mapping, when it counts.
    public var nextPort: UInt16?
    /// Whether the NAT may show this side's TCP port as another one to the peer than to those who saw it so far.
    public var isTCPUnsure: Bool

    public init(
        udp: [TransportAddress] = [], tcp: [TransportAddress] = [], nat: NATKind = NATKind(), nextPort: UInt16? = nil,
        isTCPUnsure: Bool = false
    ) {
        self.udp = udp
        self.tcp = tcp
        self.nat = nat
        self.nextPort = nextPort
        self.isTCPUnsure = isTCPUnsure
    }

    public var isEmpty: Bool { udp.isEmpty && tcp.isEmpty }

    /// The public IPv4 address and port of the UDP socket, as others see them.
    public var publicIPv4: TransportAddress? { udp.first { $0.isIPv4 && $0.isPublic } }

    /// Whether TCP listens, but nobody has said where it is seen on the internet.
    var lacksPublicTCP: Bool { !tcp.isEmpty && !tcp.contains { $0.isPublic } }

    /// Whether only TCP reaches it: a network without UDP.
    var isTCPOnly: Bool { !udp.contains { $0.isPublic } && tcp.contains { $0.isPublic } }

    /// Whether the UDP socket's mappings differ from destination to destination, as far as that is known.
    var isSymmetric: Bool { nat.mapping.isDependent }

    /// Which way and how far the NAT counts, when it does.
    var step: Int? { if case .sequential(let step) = nat.allocation { step } else { nil } }

    /// The first `count` ports that the NAT is expected to give to new mappings; none when it does not count.
    func nextPorts(_ count: Int) -> [UInt16] {
        guard let step, let nextPort, nextPort != 0 else { return [] }
        return (0..<count).compactMap { UInt16(exactly: Int(nextPort) + $0 * step) }.filter { $0 >= 1024 }
    }

    /// Those of the peer's addresses that this side is willing to send to: the ones on the internet, and private ones where
    /// both may be in one network. What is near comes first.
    func targets(
        of remote: PunchDescription, _ list: KeyPath<PunchDescription, [TransportAddress]>, limits: PunchLimits
    ) -> [TransportAddress] {
        let isOneNetwork = sharesPublicAddress(with: remote)
        let own = udp + tcp
        let near = remote[keyPath: list].filter { address in
            if limits.takesLoopback, address.ip.scope == .loopback { return !own.contains(address) }
            guard address.isPrivate, !own.contains(address) else { return false }
            return isOneNetwork || own.contains { $0.isPrivate && $0.ip.isNear(address.ip) }
        }
        let far = remote[keyPath: list].filter { $0.isPublic && !own.contains($0) }
        var targets: [TransportAddress] = []
        for address in near.prefix(limits.maximumPrivateCandidates) + far where !targets.contains(address) {
            guard targets.count < limits.maximumCandidates else { break }
            targets.append(address)
        }
        return targets
    }

    /// Whether both sides come out of one NAT, so that private addresses of either may be good for the other.
    private func sharesPublicAddress(with remote: PunchDescription) -> Bool {
        let own = (udp + tcp).filter { $0.isIPv4 && $0.isPublic }
        return (remote.udp + remote.tcp).contains { other in own.contains { $0.ip == other.ip } }
    }
}
