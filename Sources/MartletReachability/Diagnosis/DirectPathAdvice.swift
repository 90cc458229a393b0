import MartletCore

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
    ///   - isUDPBlocked: whether nobody answers this node by UDP.
    ///   - attempt: the last attempt.
    public init(
        local: NATKind, remote: NATKind, remoteIsKnown: Bool, ports: [String], hasListeners: Bool,
        isUDPBlocked: Bool = false, attempt: PunchReport? = nil
    ) {
        explain(
            local: local, remote: remote, remoteIsKnown: remoteIsKnown, ports: ports, hasListeners: hasListeners,
            blocked: (isUDPBlocked, attempt.map(Self.lacksUDP) ?? false))
        if hasListeners { tell(attempt) }
    }

    /// Whether the peer named its addresses, and none of them by UDP on the internet.
    private static func lacksUDP(_ attempt: PunchReport) -> Bool {
        attempt.stage >= .exchanged && !attempt.remoteAddresses.isEmpty
            && !attempt.remoteAddresses.contains { $0.contains(.udp) && $0.isPublic }
    }

    private mutating func explain(
        local: NATKind, remote: NATKind, remoteIsKnown: Bool, ports: [String], hasListeners: Bool,
        blocked: (local: Bool, remote: Bool)
    ) {
        guard hasListeners else {
            reasons.append("This node listens nowhere, so that nothing can be punched from.")
            remedies.append("Start it with --listen, for instance /ip4/0.0.0.0/udp/4001/quic-v1.")
            return
        }
        let isUDP = !blocked.local && !blocked.remote
        let port = ports.first { $0.hasPrefix("UDP") == isUDP } ?? ports.first
        let forward = "Forward a port to one of the two nodes on its router" + (port.map { " (here \($0))" } ?? "")
        guard !blocked.local, !blocked.remote else {
            let sides = [blocked.local ? "this side" : nil, blocked.remote ? "the peer's side" : nil].compactMap(\.self)
            let place = sides.joined(separator: " and on ")
            reasons.append(
                "UDP does not get through on \(place): a firewall seems to drop it. By TCP alone few NATs can be passed."
            )
            remedies.append("Allow UDP out on the firewall on \(place), and the answers in.")
            remedies.append("\(forward).")
            return
        }
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
    }

    /// How far the last attempt came.
    private mutating func tell(_ attempt: PunchReport?) {
        guard let attempt else {
            reasons.append("No attempt at a direct connection was made yet.")
            return
        }
        guard case .failed(let failure) = attempt.outcome else { return }
        let tried = attempt.triedAddresses.count
        switch attempt.stage {
        case .signalling: reasons.append("The peer did not answer the invitation that went to it over the relay.")
        case .exchanged where tried == 0:
            reasons.append("The peer named no address that packets can be sent to.")
        case .exchanged, .probing:
            reasons.append(
                "\(attempt.packetsSent) packets went to \(tried == 1 ? "one address" : "\(tried) addresses") of the peer, and none of its packets came here."
            )
        case .heard: reasons.append("Packets of the peer came through, but no connection over that path.")
        case .connected: reasons.append("The last attempt: \(failure).")
        }
    }
}
