import MartletCore
import Testing

@testable import MartletContent

/// Runs a plan against peers that are slow, stall, lie, lack leaves, are busy or go away, on a clock of its own.
private struct FetchSimulation {
    struct SimulatedPeer {
        var speed: Double
        var corruptOdds: UInt64
        var lossOdds: UInt64
        var stallOdds: UInt64
        var lacks: Set<Int>
        var isHonest: Bool
        var queue: [Int] = []
        var sent = 0.0
        var stalledUntil = Instant(nanoseconds: 0)
        var connectsAt: Instant?
        var isConnected = false
        var isBanned = false
    }

    var plan: FetchPlan
    var peers: [SimulatedPeer] = []
    var random: RandomSource
    var now = Instant(nanoseconds: 0)
    var verified: [Int]
    var verifying: [(leaf: Int, peer: FetchPlan.Peer, isRight: Bool, at: Instant)] = []
    var log: [String] = []
    var end: FetchPlan.Output?
    let size: Int

    init(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let leafCount = Int(random.next() % 200) + 1
        size = [1000, 256 << 10, 1 << 20][Int(random.next() % 3)]
        var configuration = FetchPlan.Configuration()
        configuration.initialWindowByteCount = 4 * size
        configuration.maximumWindowByteCount = 16 * size
        configuration.batchByteCount = 2 * size
        let local = (0..<leafCount).filter { _ in random.next() % 10 == 0 }
        plan = FetchPlan(
            sizes: .regular(byteCount: size, last: max(1, size / 3), count: leafCount), local: local,
            configuration: configuration, now: now)
        verified = Array(repeating: 0, count: leafCount)
        self.random = random
        let peerCount = Int(random.next() % 5) + 1
        for index in 0..<peerCount {
            _ = plan.addPeer()
            // The first is honest and complete, so that the fetch can end well.
            let isHonest = index == 0
            peers.append(
                SimulatedPeer(
                    speed: Double(size) * Double(random.next() % 50 + (isHonest ? 10 : 1)),
                    corruptOdds: isHonest ? 0 : [0, 0, 50, 5][Int(random.next() % 4)],
                    lossOdds: [0, 300, isHonest ? 300 : 20][Int(random.next() % 3)],
                    stallOdds: [0, isHonest ? 500 : 100][Int(random.next() % 2)],
                    lacks: isHonest ? [] : Set((0..<leafCount).filter { _ in random.next() % 20 == 0 }),
                    isHonest: isHonest))
            peers[index].connectsAt = now + .milliseconds(Int(random.next() % 1000))
        }
        for leaf in local {
            let isValid = random.next() % 4 != 0
            if isValid { verified[leaf] += 1 }
            plan.localLeaf(leaf, isValid: isValid, now: now)
        }
        self.random = random
    }

    mutating func chance(_ odds: UInt64) -> Bool { odds > 0 && random.next() % odds == 0 }

    mutating func drain() {
        while let output = plan.nextOutput() {
            log.append("\(now.nanoseconds) \(output)")
            switch output {
            case .request(let peer, let leaves):
                #expect(peers[peer.index].isConnected && !peers[peer.index].isBanned, "asked a peer that is not there")
                #expect(!leaves.isEmpty)
                peers[peer.index].queue += leaves
                // The window, a batch beyond it, or one leaf.
                #expect(peers[peer.index].queue.count <= 16 + 2 + 1)
                #expect(Set(peers[peer.index].queue).count == peers[peer.index].queue.count, "asked twice")
            case .cancel(let peer, let leaf): peers[peer.index].queue.removeAll { $0 == leaf }
            case .drop(let peer, let reason):
                disconnect(peer.index)
                if reason.isFinal {
                    peers[peer.index].isBanned = true
                    peers[peer.index].connectsAt = nil
                    if case .corruptLeaf = reason { #expect(!peers[peer.index].isHonest) }
                }
            case .completed, .failed: end = output
            }
        }
    }

    mutating func disconnect(_ index: Int) {
        peers[index].isConnected = false
        peers[index].queue = []
        peers[index].sent = 0
        peers[index].connectsAt = now + .milliseconds(300)
    }

    mutating func step() {
        now = now + .milliseconds(10)
        for index in peers.indices where !peers[index].isBanned {
            let peer = FetchPlan.Peer(index: index)
            if let at = peers[index].connectsAt, at <= now, !peers[index].isConnected {
                peers[index].connectsAt = nil
                peers[index].isConnected = true
                plan.peerReady(peer, now: now)
                drain()
            }
            guard peers[index].isConnected, !peers[index].queue.isEmpty else { continue }
            if chance(peers[index].lossOdds) {
                disconnect(index)
                plan.peerLost(peer, .disconnected("lost"), now: now)
                drain()
                continue
            }
            if chance(peers[index].stallOdds) { peers[index].stalledUntil = now + .seconds(12) }
            guard peers[index].stalledUntil <= now else { continue }
            let count = peers[index].speed * 0.01
            peers[index].sent += count
            plan.progress(peer, byteCount: Int(count), now: now)
            while end == nil, peers[index].isConnected, let leaf = peers[index].queue.first,
                peers[index].sent >= Double(size)
            {
                peers[index].sent -= Double(size)
                peers[index].queue.removeFirst()
                if peers[index].lacks.contains(leaf) {
                    plan.leafUnavailable(leaf, from: peer, .notFound, now: now)
                } else {
                    let isRight = !chance(peers[index].corruptOdds)
                    if plan.leafReceived(leaf, from: peer, now: now) {
                        verifying.append((leaf, peer, isRight, now + .milliseconds(Int(random.next() % 30))))
                    }
                }
                drain()
            }
        }
        for job in verifying where job.at <= now && end == nil {
            if job.isRight {
                verified[job.leaf] += 1
                plan.leafVerified(job.leaf, from: job.peer, now: now)
            } else {
                plan.leafCorrupt(job.leaf, from: job.peer, now: now)
            }
            drain()
        }
        verifying.removeAll { $0.at <= now }
        if end == nil, now.nanoseconds % 250_000_000 == 0 {
            plan.tick(now: now)
            drain()
        }
    }

    mutating func run() {
        drain()
        var steps = 0
        while end == nil, steps < 200_000 {
            step()
            steps += 1
        }
    }
}

@Suite struct FetchSimulationTests {
    @Test(arguments: 0..<60 as Range<UInt64>)
    func everyLeafIsVerifiedOnceWhateverPeersDo(seed: UInt64) {
        var simulation = FetchSimulation(seed: seed)
        simulation.run()
        #expect(simulation.end == .completed, "seed \(seed)")
        #expect(simulation.verified.allSatisfy { $0 == 1 }, "seed \(seed)")
        let progress = simulation.plan.progress(now: simulation.now)
        #expect(progress.doneByteCount == progress.byteCount)
    }

    @Test func theSameSeedGivesTheSameOrders() {
        for seed in 0..<8 as Range<UInt64> {
            var first = FetchSimulation(seed: seed)
            var second = FetchSimulation(seed: seed)
            first.run()
            second.run()
            #expect(first.log == second.log)
        }
    }
}
