import Testing

@testable import MartletReachability

private let symmetric = NATKind(mapping: .addressAndPortDependent, allocation: .random)
private let cone = NATKind(mapping: .endpointIndependent, filtering: .addressAndPortDependent, allocation: .preserving)

private func advice(_ local: NATKind, _ remote: NATKind, hasListeners: Bool = true) -> DirectPathAdvice {
    DirectPathAdvice(
        local: local, remote: remote, remoteIsKnown: true, ports: ["UDP port 4001"], hasListeners: hasListeners,
        failure: "nothing was heard")
}

@Test func twoSymmetricNATsNeedAPortForwarded() {
    let found = advice(symmetric, symmetric)
    #expect(found.reasons.first?.hasPrefix("Both sides are behind symmetric NATs") == true)
    #expect(found.remedies.first?.hasPrefix("Forward UDP port 4001") == true)
    #expect(found.reasons.last == "The last attempt: nothing was heard.")
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
    #expect(texts.count == 2 + 2 * NATFiltering.allCases.count)
}
