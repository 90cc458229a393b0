import MartletCore

// Who is asked for what.
extension FetchPlan {
    /// Asks every peer with room in its window for more, in turns, so that nobody gets all.
    mutating func assign(_ now: Instant) {
        guard !isOver else { return }
        for index in peers.indices where peers[index].movingSince != nil && peers[index].outstanding.isEmpty {
            drop(Peer(index: index), .moved)
        }
        var isAsking = true
        while isAsking {
            isAsking = false
            for index in peers.indices where canAsk(index, now) {
                if askForMissing(index, now) || askTwice(index, now) { isAsking = true }
            }
        }
    }

    private func canAsk(_ index: Int, _ now: Instant) -> Bool {
        peers[index].isReady && peers[index].pausedUntil <= now && peers[index].movingSince == nil
    }

    /// How many bytes the peer may have outstanding.
    func window(_ index: Int) -> Int {
        guard let speed = peers[index].speed else { return configuration.initialWindowByteCount }
        let wanted = speed * configuration.windowDuration.secondsAsDouble
        // Two leaves at least, so that the next one is asked for while one comes.
        let least = Double(min(2 * sizes[0], configuration.maximumWindowByteCount))
        return Int(max(least, min(wanted, Double(configuration.maximumWindowByteCount))))
    }

    /// Asks for one run of missing leaves. False when there is no room or nothing to ask for.
    private mutating func askForMissing(_ index: Int, _ now: Instant) -> Bool {
        // Leaves of a few bytes would fill a window with more of them than is worth keeping track of.
        guard missingCount > 0, peers[index].outstanding.count < configuration.maximumOutstandingLeaves else {
            return false
        }
        let room = window(index) - peers[index].outstandingByteCount
        let batch = min(configuration.batchByteCount, max(window(index) / 4, sizes[0]))
        // Few large requests rather than one for every leaf that arrives.
        guard room >= batch || peers[index].outstanding.isEmpty else { return false }
        var run: [Int] = []
        var byteCount = 0
        var leaf = lowestMissing
        // A peer that lacks a lot must not make every assignment walk the whole file.
        var steps = 0
        while leaf < leaves.count, steps < 65_536 {
            steps += 1
            defer { leaf += 1 }
            guard leaves[leaf] == .missing, !peers[index].lacking.contains(leaf) else {
                if run.isEmpty { continue } else { break }
            }
            guard run.isEmpty || byteCount + sizes[leaf] <= batch, run.count < configuration.maximumBatchLeaves else {
                break
            }
            run.append(leaf)
            byteCount += sizes[leaf]
        }
        guard !run.isEmpty else { return false }
        for leaf in run {
            setState(leaf, .requested)
            ask(leaf, index, now)
        }
        outputs.append(.request(Peer(index: index), leaves: run))
        return true
    }

    /// The end game: nothing is missing, but a slow peer has leaves that this idle one would bring sooner.
    private mutating func askTwice(_ index: Int, _ now: Instant) -> Bool {
        guard missingCount == 0 || !hasLeafFor(index), peers[index].outstanding.isEmpty else { return false }
        var worst: (leaf: Int, seconds: Double)?
        for other in peers.indices where other != index && peers[other].isReady {
            guard let last = peers[other].outstanding.last(where: { isWorthAskingTwice($0, index) }) else { continue }
            let seconds = expectedSeconds(other, now)
            if seconds > worst?.seconds ?? 0 { worst = (last, seconds) }
        }
        guard let worst else { return false }
        // An idle peer of unknown speed is worth trying. Half the time is gain enough for sending a leaf twice.
        let own = peers[index].speed.map { Double(sizes[worst.leaf]) / max($0, 1) + 0.05 } ?? 0.05
        guard worst.seconds > 2 * own else { return false }
        ask(worst.leaf, index, now)
        outputs.append(.request(Peer(index: index), leaves: [worst.leaf]))
        return true
    }

    private func isWorthAskingTwice(_ leaf: Int, _ index: Int) -> Bool {
        leaves[leaf] == .requested && holders[leaf] == 1 && !peers[index].lacking.contains(leaf)
    }

    private func hasLeafFor(_ index: Int) -> Bool {
        guard !peers[index].lacking.isEmpty else { return missingCount > 0 }
        return leaves[lowestMissing...].indices.prefix(65_536)
            .contains { leaves[$0] == .missing && !peers[index].lacking.contains($0) }
    }

    /// How long the peer will take for all that it was asked for.
    private func expectedSeconds(_ index: Int, _ now: Instant) -> Double {
        let silence = max(0, (now - peers[index].lastProgress).secondsAsDouble)
        guard let speed = peers[index].speed, speed > 0 else {
            // Nothing known: as bad as its silence so far.
            return silence
        }
        return max(Double(peers[index].outstandingByteCount) / speed, silence)
    }

    private mutating func ask(_ leaf: Int, _ index: Int, _ now: Instant) {
        holders[leaf] += 1
        peers[index].asked(leaf, sizes[leaf], now: now)
    }

    // MARK: Bookkeeping

    mutating func setState(_ leaf: Int, _ state: LeafState) {
        if leaves[leaf] == .missing { missingCount -= 1 }
        leaves[leaf] = state
        if state == .missing {
            missingCount += 1
            lowestMissing = min(lowestMissing, leaf)
        }
        advanceLowestMissing()
    }

    mutating func advanceLowestMissing() {
        while lowestMissing < leaves.count, leaves[lowestMissing] != .missing { lowestMissing += 1 }
    }

    mutating func releaseHolder(_ leaf: Int) {
        if holders[leaf] > 0 { holders[leaf] -= 1 }
    }

    /// The leaf is done: nobody else need send it.
    mutating func finish(_ leaf: Int, _ now: Instant) {
        setState(leaf, .done)
        progressState.finished(sizes[leaf], now: now)
        if holders[leaf] > 0 {
            for index in peers.indices where peers[index].removeOutstanding(leaf, sizes[leaf]) {
                outputs.append(.cancel(Peer(index: index), leaf: leaf))
            }
            holders[leaf] = 0
            assign(now)
        }
        guard progressState.doneLeafCount == leaves.count else { return }
        isOver = true
        outputs.append(.completed)
    }

    /// Ends the use of a peer by our own decision.
    mutating func drop(_ peer: Peer, _ reason: DropReason) {
        guard !peers[peer.index].isGone else { return }
        let wasReady = peers[peer.index].isReady
        release(peer, reason)
        if wasReady { outputs.append(.drop(peer, reason)) }
    }

    /// Takes back what the peer was asked for.
    mutating func release(_ peer: Peer, _ reason: DropReason) {
        guard !peers[peer.index].isGone else { return }
        for leaf in peers[peer.index].outstanding {
            releaseHolder(leaf)
            if leaves[leaf] == .requested, holders[leaf] == 0 { setState(leaf, .missing) }
        }
        peers[peer.index].outstanding = []
        peers[peer.index].outstandingByteCount = 0
        peers[peer.index].speed = nil
        peers[peer.index].movingSince = nil
        peers[peer.index].phase = reason.isFinal ? .gone(reason) : .away(reason)
    }

    // MARK: Giving up

    mutating func failIfHopeless() {
        // Leaves that are here and being verified need no peer.
        guard !isOver, missingCount > 0, !peers.isEmpty, peers.allSatisfy(\.isGone) else { return }
        fail(
            .noPeersLeft(
                peers.compactMap { peer in
                    if case .gone(let reason) = peer.phase { return reason }
                    return nil
                }))
    }

    func isLackedByAll(_ leaf: Int) -> Bool {
        peers.allSatisfy { $0.isGone || $0.lacking.contains(leaf) }
    }

    mutating func fail(_ failure: Failure) {
        isOver = true
        outputs.append(.failed(failure))
    }
}
