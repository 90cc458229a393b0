/// Why two nodes have no direct connection, and what a person can do about it.
public struct DirectPathAdvice: Hashable, Sendable {
    /// What is in the way, a sentence each.
    public var reasons: [String] = []
    /// What helps, the easiest first.
    public var remedies: [String] = []

    /// - Parameters:
    ///   - local, remote: the NATs of both sides as far as they are known.
    ///   - remoteIsKnown: whether the other side told of its NAT at all.
    ///   - ports: ports that this node listens at, as a person forwards them: `UDP port 4001`.
    ///   - hasListeners: whether this node listens at all.
    ///   - failure: what the last attempt said.
    public init(
        local: NATKind, remote: NATKind, remoteIsKnown: Bool, ports: [String], hasListeners: Bool, failure: String?
    ) {
        guard hasListeners else {
            reasons.append("This node listens nowhere, so that nothing can be punched from.")
            remedies.append("Start it with --listen, for instance /ip4/0.0.0.0/udp/4001/quic-v1.")
            return
        }
        let forward =
            "Forward \(ports.first ?? "the port that the node listens at") to one of the two nodes on its router"
        switch (local.mapping.isDependent, remote.mapping.isDependent) {
        case (true, true):
            reasons.append("Both sides are behind symmetric NATs: neither can tell the other which port to send to.")
            remedies.append("\(forward), or let its router do so by itself (UPnP, NAT-PMP or PCP).")
            remedies.append("Give one of them an IPv6 address, or a public IPv4 one.")
        case (true, false), (false, true):
            let side = local.mapping.isDependent ? "This side is" : "The other side is"
            let isFiltered = local.mapping.isDependent ? remote.filtering : local.filtering
            reasons.append("\(side) behind a symmetric NAT: its port has to be guessed, which does not always succeed.")
            if isFiltered == .endpointIndependent {
                reasons.append(
                    "The NAT on the other end lets strangers in, so this should have worked; a firewall may drop UDP.")
            }
            remedies.append("Try again: another attempt may guess right.")
            remedies.append("\(forward).")
        case (false, false):
            if local.mapping == .unknown {
                reasons.append("It is not known yet what kind of NAT this node is behind.")
                remedies.append(
                    "Connect to peers in other networks, two relays for instance: they say where they see this node.")
            } else if !remoteIsKnown || remote.mapping == .unknown {
                reasons.append("It is not known what kind of NAT the other side is behind.")
            } else {
                reasons.append(
                    "Both NATs keep their ports, so a direct connection should be possible; a firewall on the way may drop it."
                )
            }
            remedies.append("Allow UDP out on both sides, at least to the ports that the nodes listen at.")
            remedies.append("\(forward).")
        }
        if let failure { reasons.append("The last attempt: \(failure).") }
    }
}
