import MartletCore
import MartletIdentity
import Testing

@testable import MartletRPC

private func peers(_ count: Int) -> [PeerID] {
    (0..<count).map { KeyPair(seed: [UInt8](repeating: UInt8($0 + 1), count: 32)).peerID }
}

private let now = Instant(nanoseconds: 1)

private func table(_ peers: [PeerID], capacity: Int = 1) -> ShardTable {
    var table = ShardTable()
    for peer in peers {
        _ = table.update(
            peer, with: ShardList(sequence: 1, shards: [.init(model: "M", layers: 0..<16, capacity: capacity)]))
    }
    return table
}

@Test func aListOfShardsComesBack() throws {
    let list = ShardList(
        sequence: 9,
        shards: [.init(model: "Modell ä", layers: 3..<19, version: 7, capacity: 4), .init(model: "", layers: 0..<1)])
    #expect(try ShardList(decoding: list.encoded) == list)
    for count in 0..<list.encoded.count {
        #expect(throws: DecodingError.self) { try ShardList(decoding: list.encoded.prefix(count)) }
    }
    #expect(throws: DecodingError.self) { try ShardList(decoding: [0, 1, 0, 5, 5, 0, 1]) }
    #expect(throws: DecodingError.self) { try ShardList(decoding: [0, 1, 0, 5, 6, 0, 0]) }
    #expect(throws: DecodingError.self) { try ShardList(decoding: [0, 0x81, 0x02]) }
}

@Test func onlyHoldersOfAllThatIsNeededAreChosen() {
    let peers = peers(3)
    var table = ShardTable()
    _ = table.update(peers[0], with: ShardList(sequence: 1, shards: [.init(model: "M", layers: 0..<16, version: 1)]))
    _ = table.update(peers[1], with: ShardList(sequence: 1, shards: [.init(model: "M", layers: 16..<32, version: 2)]))
    _ = table.update(peers[2], with: ShardList(sequence: 1, shards: [.init(model: "N", layers: 0..<32, version: 2)]))
    var random = RandomSource(seed: 1)
    func choose(_ need: ShardNeed) -> PeerID? {
        table.choose(need, affinity: nil, excluding: [], random: &random, now: now)
    }
    #expect(choose(.layer(7, of: "M")) == peers[0])
    #expect(choose(.layer(16, of: "M")) == peers[1])
    #expect(choose(.layers(8..<24, of: "M")) == nil)
    #expect(choose(.layer(7, of: "M", version: 2)) == nil)
    #expect(choose(.layer(7, of: "N")) == peers[2])
}

@Test func aKeyStaysWithItsHolderAndFewKeysMove() {
    let peers = peers(8)
    var all = table(peers)
    var random = RandomSource(seed: 1)
    func choose(_ key: Int) -> PeerID? {
        all.choose(.layer(1, of: "M"), affinity: "key \(key)", excluding: [], random: &random, now: now)
    }
    let before = (0..<1000).map(choose)
    #expect((0..<1000).map(choose) == before)
    #expect(Set(before.compactMap(\.self)).count == 8)
    all.remove(peers[3])
    let after = (0..<1000).map(choose)
    for (old, new) in zip(before, after) where old != peers[3] { #expect(old == new) }
}

@Test func loadFollowsCapacity() {
    let peers = peers(2)
    var table = ShardTable()
    _ = table.update(peers[0], with: ShardList(sequence: 1, shards: [.init(model: "M", layers: 0..<1, capacity: 1)]))
    _ = table.update(peers[1], with: ShardList(sequence: 1, shards: [.init(model: "M", layers: 0..<1, capacity: 3)]))
    var random = RandomSource(seed: 7)
    var counts: [PeerID: Int] = [:]
    for _ in 0..<400 {
        guard let peer = table.choose(.layer(0, of: "M"), affinity: nil, excluding: [], random: &random, now: now)
        else { continue }
        table.began(at: peer)
        counts[peer, default: 0] += 1
    }
    #expect(counts[peers[0]] == 100)
    #expect(counts[peers[1]] == 300)
}

@Test func aSlowHolderGetsLess() {
    let peers = peers(3)
    var table = table(peers)
    for (peer, milliseconds) in zip(peers, [1, 1, 100]) {
        table.began(at: peer)
        table.ended(at: peer, after: .milliseconds(milliseconds), isFailure: false, now: now)
    }
    var random = RandomSource(seed: 3)
    for _ in 0..<100 {
        #expect(table.choose(.layer(0, of: "M"), affinity: nil, excluding: [], random: &random, now: now) != peers[2])
    }
}

@Test func aHolderThatFailedIsPassedOverForAWhile() {
    let peers = peers(2)
    var table = table(peers)
    var random = RandomSource(seed: 3)
    table.began(at: peers[0])
    table.ended(at: peers[0], after: .zero, isFailure: true, now: now)
    for _ in 0..<20 {
        #expect(table.choose(.layer(0, of: "M"), affinity: nil, excluding: [], random: &random, now: now) == peers[1])
    }
    // Better than nobody.
    let last = table.choose(.layer(0, of: "M"), affinity: nil, excluding: [peers[1]], random: &random, now: now)
    #expect(last == peers[0])
    let later = now + ShardTable.penalty
    let chosen = (0..<50).map { _ in
        table.choose(.layer(0, of: "M"), affinity: nil, excluding: [], random: &random, now: later)
    }
    #expect(chosen.contains(peers[0]))
}

@Test func anOlderListDoesNotReplaceALaterOne() {
    let peers = peers(1)
    var table = ShardTable()
    _ = table.update(peers[0], with: ShardList(sequence: 5, shards: []))
    _ = table.update(peers[0], with: ShardList(sequence: 4, shards: [.init(model: "M", layers: 0..<1)]))
    #expect(table.all[0].shards.isEmpty)
}

@Test func holdersBeyondTheLimitAreNotTakenIn() {
    let peers = peers(3)
    var table = ShardTable(limit: 2)
    let list = ShardList(sequence: 1, shards: [])
    let taken = peers.map { table.update($0, with: list) }
    #expect(taken == [true, true, false])
    #expect(table.holderCount == 2)
}
