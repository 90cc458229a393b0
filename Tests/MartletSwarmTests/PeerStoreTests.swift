import MartletCore
import MartletIdentity
import Testing

@testable import MartletSwarm

private func peer(_ seed: UInt64) -> PeerID {
    var random = RandomSource(seed: seed)
    return KeyPair(random: &random).peerID
}

private func time(_ seconds: Int64) -> WallTime { WallTime(nanosecondsSince1970: seconds * 1_000_000_000) }

@Test func aFullStoreForgetsThePeerSeenLongestAgo() throws {
    var store = PeerStore(capacity: 3)
    for seed in UInt64(1)...4 {
        store.update(peer(seed), with: IdentifyInfo(), now: time(Int64(seed)), keeping: { $0 == peer(1) })
    }
    #expect(store.count == 3)
    #expect(store[peer(1)] != nil)
    #expect(store[peer(2)] == nil)
}

@Test func aFullStoreOfNeededPeersTakesNoMore() {
    var store = PeerStore(capacity: 2)
    for seed in UInt64(1)...3 { store.update(peer(seed), with: IdentifyInfo(), now: time(1), keeping: { _ in true }) }
    #expect(store.count == 2)
    #expect(store[peer(3)] == nil)
}

@Test func addressesOfOnePeerAreBounded() throws {
    var store = PeerStore()
    let addresses = try (1...100).map { try Multiaddr("/ip4/192.0.2.1/tcp/\($0)") }
    store.add(addresses: addresses, of: peer(1), keeping: { _ in true })
    #expect(store[peer(1)]?.addresses.count == PeerStore.addressLimit)
}

@Test func anOlderSignedRecordIsIgnored() throws {
    var store = PeerStore()
    var info = IdentifyInfo()
    info.signedRecord = [1]
    info.recordSequence = 7
    info.listenAddresses = [try Multiaddr("/ip4/192.0.2.7/tcp/1")]
    store.update(peer(1), with: info, now: time(1), keeping: { _ in true })
    info.recordSequence = 6
    info.listenAddresses = [try Multiaddr("/ip4/192.0.2.6/tcp/1")]
    store.update(peer(1), with: info, now: time(2), keeping: { _ in true })
    #expect(store[peer(1)]?.addresses.map(\.description) == ["/ip4/192.0.2.7/tcp/1"])
    #expect(store[peer(1)]?.recordSequence == 7)
}

@Test func whatIsStoredComesBack() throws {
    var store = PeerStore()
    var info = IdentifyInfo()
    info.agentVersion = "agent/1"
    info.protocols = ["/a/1", "/b/1"]
    info.listenAddresses = [try Multiaddr("/ip4/192.0.2.7/tcp/1")]
    store.update(peer(1), with: info, now: time(42), keeping: { _ in true })
    let changes = store.takeChanges()
    #expect(changes.count == 1)
    #expect(store.takeChanges().isEmpty)
    var second = PeerStore()
    second.load(try #require(changes[0].1), of: peer(1))
    #expect(second[peer(1)] == store[peer(1)])
    second.load([0xFF, 0xFF], of: peer(2))
    #expect(second[peer(2)] == nil)
}
