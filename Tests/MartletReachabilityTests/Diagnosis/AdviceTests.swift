import MartletCore
import Testing

@testable import MartletReachability

private let symmetric = NATKind(mapping: .addressAndPortDependent, allocation: .random)
private let cone = NATKind(mapping: .endpointIndependent, filtering: .addressAndPortDependent, allocation: .preserving)

private func attempt(_ stage: PunchReport.Stage, remote: [String] = ["/ip4/11.7.0.9/udp/4001/quic-v1"]) -> PunchReport {
    var report = PunchReport(method: .martlet, isDialer: true, startedAt: Instant(nanoseconds: 0))
    report.stage = stage
    report.remoteAddresses = remote.compactMap { try? Multiaddr($0) }
    report.triedAddresses = report.remoteAddresses
    report.packetsSent = 12
    report.outcome = .failed("nothing was heard")
    return report
}

private func advice(
    _ local: NATKind, _ remote: NATKind, hasListeners: Bool = true, isUDPBlocked: Bool = false,
    attempt: PunchReport? = attempt(.probing)
) -> DirectPathAdvice {
    DirectPathAdvice(
        local: local, remote: remote, remoteIsKnown: true, ports: ["UDP port 4001"], hasListeners: hasListeners,
        isUDPBlocked: isUDPBlocked, attempt: attempt)
}

@Test func howFarTheAttemptCameIsTold() {
    let words = PunchReport.Stage.allCases.dropLast().map {
        advice(cone, cone, attempt: attempt($0)).reasons.last
    }
    #expect(words[0] == "The peer did not answer the invitation that went to it over the relay.")
    #expect(words[2] == "12 packets went to one address of the peer, and none of its packets came here.")
    #expect(words[3] == "Packets of the peer came through, but no connection over that path.")
    #expect(
        advice(cone, cone, attempt: attempt(.exchanged, remote: [])).reasons.contains(
            "The peer named no address that packets can be sent to."))
    #expect(advice(cone, cone, attempt: nil).reasons.last == "No attempt at a direct connection was made yet.")
}

@Test func aSideWithoutUDPIsNamed() {
    let here = advice(cone, cone, isUDPBlocked: true)
    #expect(here.reasons.first?.hasPrefix("UDP does not get through on this side:") == true)
    #expect(here.remedies.first == "Allow UDP out on the firewall on this side, and the answers in.")
    let tcp = attempt(.probing, remote: ["/ip4/11.7.0.9/tcp/4001", "/ip4/192.168.1.2/udp/4001/quic-v1"])
    let there = advice(symmetric, cone, attempt: tcp)
    #expect(there.reasons.first?.hasPrefix("UDP does not get through on the peer's side:") == true)
    let both = advice(cone, cone, isUDPBlocked: true, attempt: tcp)
    #expect(
        both.remedies.first == "Allow UDP out on the firewall on this side and on the peer's side, and the answers in.")
    // What it did not say is not held against it.
    #expect(advice(cone, cone, attempt: attempt(.signalling, remote: [])).reasons.first?.hasPrefix("Both NATs") == true)
}

private func situation(_ change: (inout NodeAdvice.Situation) -> Void) -> NodeAdvice {
    var situation = NodeAdvice.Situation()
    situation.ports = ["UDP port 4001", "TCP port 4001"]
    situation.isRelayed = true
    change(&situation)
    return NodeAdvice(situation)
}

private func behavior(_ kind: NATKind, isAnswered: Bool = true) -> NATBehavior {
    NATBehavior(kind: kind, hairpinning: nil, externalAddress: nil, isAnswered: isAnswered)
}

@Test func aNodeThatIsReachedNeedsNothing() {
    let found = situation {
        $0.isReached = true
        $0.udp = behavior(cone)
    }
    #expect(found.reasons.isEmpty)
    #expect(found.remedies.isEmpty)
}

@Test func blockedUDPIsNamedWithThePortsToOpen() {
    let found = situation {
        $0.udp = behavior(NATKind(), isAnswered: false)
        $0.servers = ["11.7.1.1:4001"]
    }
    #expect(found.reasons.first?.hasPrefix("UDP does not get through") == true)
    #expect(found.remedies.first?.hasPrefix("Allow UDP out on the firewall, at least to 11.7.1.1:4001,") == true)
}

@Test func whatIsInFrontOfTheRouterIsNamedBeforeTheRouter() {
    let carrier = situation {
        $0.outerNAT = .carrier
        $0.forwardingFailures = ["no gateway answers UPnP"]
    }
    #expect(carrier.reasons.first?.contains("carrier-grade NAT") == true)
    #expect(!carrier.remedies.contains { $0.hasPrefix("Forward") })
    #expect(situation { $0.outerNAT = .router }.remedies.first?.contains("both routers") == true)
}

@Test func whoIsNotReachedIsToldHow() {
    let silent = situation {
        $0.udp = behavior(cone)
        $0.forwardingFailures = ["no gateway answers UPnP"]
        $0.isRelayed = false
    }
    #expect(silent.reasons == ["The router forwards no port by itself."])
    #expect(silent.remedies.count == 3)
    #expect(silent.remedies.last?.hasPrefix("Start the node with --relay") == true)
    let firewall = situation { $0.udp = behavior(NATKind(mapping: .none, filtering: .addressAndPortDependent)) }
    #expect(firewall.remedies == ["Allow UDP port 4001 and TCP port 4001 in on the firewall."])
    #expect(situation { $0.ports = [] }.remedies.first?.contains("--listen") == true)
}

@Test func twoSymmetricNATsNeedAPortForwarded() {
    let found = advice(symmetric, symmetric)
    #expect(found.reasons.first?.hasPrefix("Both sides are behind symmetric NATs") == true)
    #expect(
        found.remedies.first?.hasPrefix("Forward a port to one of the two nodes on its router (here UDP port 4001)")
            == true)
}

@Test func theSideWithTheSymmetricNATIsNamed() {
    #expect(advice(symmetric, cone).reasons.first?.hasPrefix("This side") == true)
    #expect(advice(cone, symmetric).reasons.first?.hasPrefix("The other side") == true)
}

@Test func whoListensNowhereIsToldSo() {
    #expect(advice(cone, cone, hasListeners: false).remedies.first?.contains("--listen") == true)
}

@Test func whatIsNotKnownIsNotBlamed() {
    #expect(advice(NATKind(), cone).reasons.first == "It is not known yet what kind of NAT this node is behind.")
    #expect(advice(cone, NATKind()).reasons.first == "It is not known what kind of NAT the other side is behind.")
    #expect(advice(cone, cone).reasons.first?.hasPrefix("Both NATs keep their ports") == true)
}

@Test func everyKindOfNATHasWords() {
    var texts: Set<String> = []
    for mapping in NATMapping.allCases {
        for filtering in NATFiltering.allCases {
            let text = NATKind(mapping: mapping, filtering: filtering, allocation: .sequential(step: 2)).explanation
            #expect(text.hasSuffix("."))
            texts.insert(text)
        }
    }
    #expect(texts.count == 1 + 3 * NATFiltering.allCases.count)
}

@Test func theTermsOfTheRFCAreSaid() {
    #expect(NATKind().terms == nil)
    #expect(
        symmetric.terms == "address-and-port-dependent mapping, unknown filtering, ports at random")
    #expect(cone.terms == "endpoint-independent mapping, address-and-port-dependent filtering, ports preserved")
    #expect(
        NATKind(mapping: .none, filtering: .endpointIndependent).terms
            == "no translation, endpoint-independent filtering")
}

@Test func aFirewallBeforeIPv6IsNamed() {
    var situation = NodeAdvice.Situation()
    situation.listens = true
    situation.ports = ["UDP port 4001"]
    situation.isRelayed = true
    #expect(!NodeAdvice(situation).remedies.contains { $0.contains("IPv6") })
    situation.isIPv6Filtered = true
    let advice = NodeAdvice(situation)
    #expect(advice.reasons.contains { $0.contains("IPv6") })
    #expect(advice.remedies.contains { $0.hasPrefix("Allow UDP port 4001 in to this machine by IPv6") })
    situation.isReached = true
    #expect(NodeAdvice(situation).remedies.isEmpty)
}

@Test func whereNobodyCanTellWhoGetsInASecondPeerIsAdvised() {
    let unknown = situation { $0.udp = behavior(NATKind(mapping: .endpointIndependent)) }
    #expect(unknown.reasons.contains { $0.hasPrefix("Whether strangers get in is not known") })
    #expect(unknown.remedies.contains { $0.contains("second peer") })
    let known = situation { $0.udp = behavior(cone) }
    #expect(!known.remedies.contains { $0.contains("second peer") })
}
