package import MartletCore
package import MartletIdentity

/// Who holds what, and whom to give the next call to.
///
/// With an affinity key, the holder that the key hashes to (rendezvous hashing), so that its caches stay warm and few
/// keys move when holders come and go. Without, the better of two holders drawn at random, by measured latency times calls
/// under way over capacity: nearly as even as asking everybody, and no holder is ever rushed by all callers at once.
///
/// Sans-I/O and a value: time and randomness are arguments.
package struct ShardTable {
    /// How long a holder that failed is passed over while there are others.
    package static let penalty = Duration.seconds(2)
    /// The latency assumed of a holder that was never measured.
    private static let unmeasured = 1e6
    /// Holders remembered at most; lists of further ones are not taken in.
    package let limit: Int

    private struct Holder {
        var sequence: UInt64
        var shards: [ShardRegistration]
        /// Moving average in nanoseconds.
        var latency: Double?
        var underWay = 0
        var penalizedUntil: Instant?
    }

    private var holders: [PeerID: Holder] = [:]

    package init(limit: Int = 4096) { self.limit = limit }

    package var holderCount: Int { holders.count }

    // MARK: What is known

    /// Takes in what a peer says it holds. False when the table is full.
    package mutating func update(_ peer: PeerID, with list: ShardList) -> Bool {
        if let known = holders[peer] {
            // Answers and announcements may overtake each other.
            guard list.sequence >= known.sequence else { return true }
            holders[peer]?.sequence = list.sequence
            holders[peer]?.shards = list.shards
            return true
        }
        guard holders.count < limit else { return false }
        holders[peer] = Holder(sequence: list.sequence, shards: list.shards)
        return true
    }

    /// A peer is gone.
    package mutating func remove(_ peer: PeerID) { holders[peer] = nil }

    /// The round trip to a peer, as a first guess of its latency.
    package mutating func measured(roundTrip: Duration, to peer: PeerID) {
        if holders[peer]?.latency == nil { holders[peer]?.latency = Double(roundTrip.nanoseconds) }
    }

    /// Everybody who holds something, with what they hold, in the order of their ids.
    package var all: [(peer: PeerID, shards: [ShardRegistration])] {
        holders.sorted { $0.key < $1.key }.map { ($0.key, $0.value.shards) }
    }

    // MARK: Choosing

    /// Whom to call next; nil when nobody is left.
    package func choose(
        _ need: ShardNeed, affinity: String?, excluding tried: [PeerID], random: inout RandomSource, now: Instant
    ) -> PeerID? {
        var candidates: [(peer: PeerID, capacity: Int)] = []
        // In the order of their ids, so that a seed replays the choice.
        for (peer, holder) in holders where !tried.contains(peer) {
            let capacity = holder.shards.lazy.filter { need.isMet(by: $0) }.map(\.capacity).max()
            if let capacity { candidates.append((peer, capacity)) }
        }
        candidates.sort { $0.peer < $1.peer }
        let healthy = candidates.filter { candidate in
            holders[candidate.peer]?.penalizedUntil.map { now >= $0 } ?? true
        }
        if !healthy.isEmpty { candidates = healthy }
        if let affinity {
            return candidates.max { Self.score($0.peer, affinity) < Self.score($1.peer, affinity) }?.peer
        }
        guard candidates.count > 1 else { return candidates.first?.peer }
        let first = Int.random(in: 0..<candidates.count, using: &random)
        var second = Int.random(in: 0..<candidates.count - 1, using: &random)
        if second >= first { second += 1 }
        let (left, right) = (candidates[first], candidates[second])
        return cost(of: left) <= cost(of: right) ? left.peer : right.peer
    }

    /// What one more call would wait, roughly.
    private func cost(of candidate: (peer: PeerID, capacity: Int)) -> Double {
        guard let holder = holders[candidate.peer] else { return .infinity }
        return (holder.latency ?? Self.unmeasured) * Double(holder.underWay + 1) / Double(max(1, candidate.capacity))
    }

    /// The same on every node and in every run: FNV-1a over peer and key, with the bits mixed at the end.
    private static func score(_ peer: PeerID, _ key: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        for byte in peer.bytes { add(byte) }
        add(0)
        for byte in key.utf8 { add(byte) }
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        hash = (hash ^ (hash >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return hash ^ (hash >> 33)
    }

    // MARK: Calls

    package mutating func began(at peer: PeerID) { holders[peer]?.underWay += 1 }

    /// A call is over; how long it took counts for an eighth.
    package mutating func ended(at peer: PeerID, after time: Duration, isFailure: Bool, now: Instant) {
        guard var holder = holders[peer] else { return }
        holder.underWay = max(0, holder.underWay - 1)
        if isFailure {
            holder.penalizedUntil = now + Self.penalty
        } else {
            let sample = Double(time.nanoseconds)
            holder.latency = holder.latency.map { $0 + (sample - $0) / 8 } ?? sample
            holder.penalizedUntil = nil
        }
        holders[peer] = holder
    }
}
