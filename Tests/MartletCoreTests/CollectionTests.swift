import MartletCore
import Testing

/// `#require` takes no call that changes something.
private func unwrap<T>(_ value: T?) throws -> T { try #require(value) }

@Test func ringBufferKeepsTheOrder() {
    var ring = RingBuffer<Int>()
    var expected: [Int] = []
    var random = RandomSource(seed: 3)
    for value in 0..<2000 {
        switch Int.random(in: 0..<5, using: &random) {
        case 0...2:
            #expect(ring.append(value) == true)
            expected.append(value)
        case 3:
            #expect(ring.popFirst() == (expected.isEmpty ? nil : expected.removeFirst()))
        default:
            #expect(ring.prepend(-value) == true)
            expected.insert(-value, at: 0)
        }
        #expect(ring.count == expected.count)
        #expect(ring.first == expected.first)
        #expect(ring.last == expected.last)
    }
    #expect(Array(ring) == expected)
    #expect(ring.indices(where: { $0 < 0 }) == expected.indices.filter { expected[$0] < 0 })
    while let value = ring.popFirst() { #expect(value == expected.removeFirst()) }
    #expect(ring.isEmpty)
}

extension RingBuffer {
    fileprivate func indices(where predicate: (Element) -> Bool) -> [Int] {
        (0..<count).filter { predicate(self[$0]) }
    }
}

@Test func aFullRingBufferTakesNothingMore() {
    var ring = RingBuffer<String>(limit: 3)
    #expect(ring.append("a") == true)
    #expect(ring.append("b") == true)
    #expect(ring.append("c") == true)
    #expect(ring.isFull)
    #expect(ring.append("d") == false)
    #expect(ring.prepend("d") == false)
    #expect(Array(ring) == ["a", "b", "c"])
    #expect(ring.popFirst() == "a")
    #expect(ring.append("d") == true)
    ring[0] = "B"
    #expect(Array(ring) == ["B", "c", "d"])
    ring.removeAll()
    #expect(ring.isEmpty)
    #expect(ring.popFirst() == nil)
}

@Test func aRingBufferLetsGoOfWhatWasTaken() {
    final class Token {}
    var ring = RingBuffer<Token>()
    var token: Token? = Token()
    weak let seen = token
    if let held = token { #expect(ring.append(held) == true) }
    token = nil
    #expect(seen != nil)
    _ = ring.popFirst()
    #expect(seen == nil)
}

@Test func anIdOfAnElementThatIsGoneFindsNothing() throws {
    var slab = Slab<String>(limit: 2)
    let a = try unwrap(slab.insert("a"))
    let b = try unwrap(slab.insert("b"))
    #expect(slab.insert("c") == nil)
    #expect(slab.remove(a) == "a")
    #expect(slab.remove(a) == nil)
    let c = try unwrap(slab.insert("c"))
    #expect(c.index == a.index)
    #expect(c != a)
    #expect(slab[a] == nil)
    #expect(slab.update(a) { $0 += "!" } == nil)
    #expect(slab[b] == "b")
    slab.update(c) { $0 += "!" }
    #expect(slab[c] == "c!")
    #expect(slab.ids == [c, b].sorted())
    #expect(slab.count == 2)
    #expect(Slab<String>.ID(rawValue: c.rawValue) == c)
    #expect(slab[Slab<String>.ID(rawValue: .max)] == nil)
}

@Test func slabAgreesWithADictionary() {
    var slab = Slab<Int>()
    var expected: [Slab<Int>.ID: Int] = [:]
    var random = RandomSource(seed: 9)
    for value in 0..<3000 {
        if Int.random(in: 0..<3, using: &random) > 0 {
            if let id = slab.insert(value) { expected[id] = value }
        } else if let id = expected.keys.sorted().randomElement(using: &random) {
            #expect(slab.remove(id) == expected.removeValue(forKey: id))
        }
    }
    #expect(slab.count == expected.count)
    #expect(slab.ids == expected.keys.sorted())
    #expect(slab.ids.allSatisfy { slab[$0] == expected[$0] })
}
