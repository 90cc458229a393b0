import MartletCore
import Testing

@testable import MartletContent

@Suite struct FetchPlanTests {
    let start = Instant(nanoseconds: 0)

    func plan(leaves: Int, size: Int = 1 << 20, _ change: (inout FetchPlan.Configuration) -> Void = { _ in })
        -> FetchPlan
    {
        var configuration = FetchPlan.Configuration()
        change(&configuration)
        return FetchPlan(
            sizes: .regular(byteCount: size, last: size / 2, count: leaves), configuration: configuration, now: start)
    }

    func outputs(_ plan: inout FetchPlan) -> [FetchPlan.Output] {
        var found: [FetchPlan.Output] = []
        while let output = plan.nextOutput() { found.append(output) }
        return found
    }

    func asked(_ outputs: [FetchPlan.Output], _ peer: FetchPlan.Peer) -> [Int] {
        outputs.flatMap { output in
            if case .request(peer, let leaves) = output { return leaves }
            return []
        }
    }

    func deliver(_ plan: inout FetchPlan, _ leaf: Int, _ peer: FetchPlan.Peer, _ now: Instant) {
        plan.progress(peer, byteCount: 1 << 20, now: now)
        if plan.leafReceived(leaf, from: peer, now: now) { plan.leafVerified(leaf, from: peer, now: now) }
    }

    @Test func aPeerIsAskedForItsWindowAheadAndForMoreAsLeavesCome() {
        var plan = plan(leaves: 100)
        let peer = plan.addPeer()
        #expect(outputs(&plan) == [])
        plan.peerReady(peer, now: start)
        #expect(asked(outputs(&plan), peer) == Array(0..<8))
        deliver(&plan, 0, peer, start)
        deliver(&plan, 1, peer, start)
        #expect(asked(outputs(&plan), peer) == [8, 9])
    }

    @Test func aFastPeerGetsALargeWindowAndASlowOneASmall() {
        var plan = plan(leaves: 1000)
        let fast = plan.addPeer()
        let slow = plan.addPeer()
        plan.peerReady(fast, now: start)
        plan.peerReady(slow, now: start)
        var now = start
        var fastLeaves = Array(asked(outputs(&plan), fast))
        for _ in 0..<100 {
            now = now + .milliseconds(10)
            deliver(&plan, fastLeaves.removeFirst(), fast, now)
            plan.progress(slow, byteCount: 10_000, now: now)
            fastLeaves += asked(outputs(&plan), fast)
        }
        #expect(plan.window(fast.index) == 32 << 20)
        #expect(plan.window(slow.index) == 2 << 20)
        #expect(fastLeaves.count > 20)
    }

    @Test func allLeavesVerifiedCompletes() {
        var plan = plan(leaves: 3)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        for leaf in 0..<3 {
            let isNeeded = plan.leafReceived(leaf, from: peer, now: start)
            #expect(isNeeded)
        }
        #expect(!outputs(&plan).contains(.completed))
        for leaf in [2, 0, 1] { plan.leafVerified(leaf, from: peer, now: start) }
        #expect(outputs(&plan) == [.completed])
        #expect(plan.progress(now: start).doneByteCount == 5 << 19)
        #expect(plan.verifiedByteCount(of: peer) == 5 << 19)
    }

    @Test func aCorruptLeafBansThePeerAndIsAskedForElsewhere() {
        var plan = plan(leaves: 16)
        let liar = plan.addPeer()
        let honest = plan.addPeer()
        plan.peerReady(liar, now: start)
        let first = asked(outputs(&plan), liar)
        plan.peerReady(honest, now: start)
        _ = outputs(&plan)
        let isNeeded = plan.leafReceived(first[0], from: liar, now: start)
        #expect(isNeeded)
        plan.leafCorrupt(first[0], from: liar, now: start)
        #expect(outputs(&plan).contains(.drop(liar, .corruptLeaf(first[0]))))
        plan.peerReady(liar, now: start)
        #expect(asked(outputs(&plan), liar).isEmpty)
        for leaf in 8..<16 { deliver(&plan, leaf, honest, start) }
        #expect(Set(asked(outputs(&plan), honest)) == Set(0..<8))
    }

    @Test func aLostPeersLeavesGoToTheOthersAndItMayComeBack() {
        var plan = plan(leaves: 16)
        let first = plan.addPeer()
        let second = plan.addPeer()
        plan.peerReady(first, now: start)
        plan.peerReady(second, now: start)
        _ = outputs(&plan)
        plan.peerLost(first, .disconnected("reset"), now: start)
        for leaf in 8..<16 { deliver(&plan, leaf, second, start) }
        #expect(Set(asked(outputs(&plan), second)) == Set(0..<8))
        plan.peerLost(second, .unreachable("gone"), now: start)
        #expect(!outputs(&plan).contains { if case .failed = $0 { true } else { false } })
        plan.peerReady(first, now: start)
        #expect(asked(outputs(&plan), first).sorted() == Array(0..<8))
        plan.peerLost(first, .unreachable("gone"), now: start)
        #expect(outputs(&plan) == [.failed(.noPeersLeft([.unreachable("gone"), .unreachable("gone")]))])
    }

    @Test func aPeerThatMovesIsAskedForNothingTwice() {
        var plan = plan(leaves: 100)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        #expect(asked(outputs(&plan), peer) == Array(0..<8))
        plan.peerMoves(peer, now: start)
        for leaf in 0..<7 { deliver(&plan, leaf, peer, start) }
        #expect(outputs(&plan) == [])
        deliver(&plan, 7, peer, start)
        #expect(outputs(&plan) == [.drop(peer, .moved)])
        plan.peerLost(peer, .moved, now: start)
        plan.peerReady(peer, now: start)
        #expect(asked(outputs(&plan), peer) == Array(8..<16))
    }

    @Test func aMoveDoesNotWaitForASlowConnection() {
        var plan = plan(leaves: 100)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        deliver(&plan, 0, peer, start)
        _ = outputs(&plan)
        plan.peerMoves(peer, now: start)
        plan.tick(now: start + .seconds(1))
        #expect(outputs(&plan) == [])
        plan.tick(now: start + .milliseconds(1001))
        #expect(outputs(&plan) == [.drop(peer, .moved)])
        plan.peerReady(peer, now: start + .seconds(2))
        #expect(asked(outputs(&plan), peer) == Array(1..<9))
    }

    @Test func theLastLeavesOfASlowPeerAreAskedForTwiceAndTheLoserIsTold() {
        var plan = plan(leaves: 9) { $0.initialWindowByteCount = 2 << 20 }
        let slow = plan.addPeer()
        let fast = plan.addPeer()
        plan.peerReady(slow, now: start)
        let slowLeaves = asked(outputs(&plan), slow)
        plan.peerReady(fast, now: start)
        var now = start
        var todo = asked(outputs(&plan), fast)
        var seen: [FetchPlan.Output] = []
        while seen.last != .completed, now < start + .seconds(4) {
            now = now + .milliseconds(20)
            if todo.isEmpty { plan.tick(now: now) } else { deliver(&plan, todo.removeFirst(), fast, now) }
            let new = outputs(&plan)
            todo += asked(new, fast)
            seen += new
        }
        for leaf in slowLeaves { #expect(seen.contains(.cancel(slow, leaf: leaf))) }
        #expect(seen.last == .completed)
    }

    @Test func aPeerThatStallsIsReplacedAndTheOnlyOneIsGivenLonger() {
        var plan = plan(leaves: 4)
        let first = plan.addPeer()
        plan.peerReady(first, now: start)
        _ = outputs(&plan)
        plan.tick(now: start + .seconds(29))
        #expect(outputs(&plan) == [])
        let second = plan.addPeer()
        plan.peerReady(second, now: start + .seconds(29))
        plan.tick(now: start + .seconds(29.5))
        let after = outputs(&plan)
        #expect(after.contains(.drop(first, .stalled)))
        #expect(Set(asked(after, second)) == Set(0..<4))
        plan.tick(now: start + .seconds(60))
        #expect(outputs(&plan) == [.drop(second, .stalled)])
    }

    @Test func aPeerThatIsNotReadFromDoesNotStall() {
        var plan = plan(leaves: 4)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        _ = outputs(&plan)
        plan.holdUp(peer, true, now: start)
        plan.tick(now: start + .seconds(100))
        #expect(outputs(&plan) == [])
        plan.holdUp(peer, false, now: start + .seconds(100))
        plan.tick(now: start + .seconds(101))
        #expect(outputs(&plan) == [])
        plan.tick(now: start + .seconds(131))
        #expect(outputs(&plan) == [.drop(peer, .stalled)])
    }

    @Test func whatAPeerLacksIsAskedForElsewhere() {
        var plan = plan(leaves: 4)
        let partial = plan.addPeer()
        let whole = plan.addPeer()
        plan.peerReady(partial, now: start)
        _ = outputs(&plan)
        plan.leafUnavailable(2, from: partial, .notFound, now: start)
        #expect(outputs(&plan) == [])
        plan.peerReady(whole, now: start)
        #expect(asked(outputs(&plan), whole) == [2])
        plan.leafUnavailable(2, from: whole, .notFound, now: start)
        #expect(outputs(&plan).contains(.failed(.leafUnavailable(2))))
    }

    @Test func aBusyPeerIsLeftAloneForAWhile() {
        var plan = plan(leaves: 4)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        _ = outputs(&plan)
        for leaf in 0..<4 { plan.leafUnavailable(leaf, from: peer, .tooBusy, now: start) }
        #expect(outputs(&plan) == [])
        plan.tick(now: start + .milliseconds(400))
        #expect(outputs(&plan) == [])
        plan.tick(now: start + .milliseconds(501))
        #expect(asked(outputs(&plan), peer) == [0, 1, 2, 3])
    }

    @Test func aStaleFileEndsThePeer() {
        var plan = plan(leaves: 4)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        _ = outputs(&plan)
        plan.leafUnavailable(0, from: peer, .stale, now: start)
        #expect(
            outputs(&plan) == [
                .drop(peer, .unavailable(.stale)), .failed(.noPeersLeft([.unavailable(.stale)])),
            ])
    }

    @Test func notedLeavesAreOnlyFetchedWhenTheyProveWrong() {
        var plan = FetchPlan(
            sizes: .regular(byteCount: 1 << 20, last: 1 << 20, count: 4), local: [0, 2], now: start)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        #expect(asked(outputs(&plan), peer) == [1, 3])
        plan.localLeaf(0, isValid: true, now: start)
        plan.localLeaf(2, isValid: false, now: start)
        deliver(&plan, 1, peer, start)
        deliver(&plan, 3, peer, start)
        #expect(asked(outputs(&plan), peer) == [2])
        deliver(&plan, 2, peer, start)
        #expect(outputs(&plan) == [.completed])
        #expect(plan.progress(now: start).resumedByteCount == 1 << 20)
    }

    @Test func tinyLeavesDoNotMakeHugeRequests() {
        var plan = plan(leaves: 1_000_000, size: 2)
        let peer = plan.addPeer()
        plan.peerReady(peer, now: start)
        let requests = outputs(&plan)
        for case .request(_, let leaves) in requests { #expect(leaves.count <= 256) }
        #expect(asked(requests, peer).count <= 1024)
    }
}
