public import MartletCore

/// How far a fetch is.
public struct FetchProgress: Hashable, Sendable {
    /// Bytes verified and written, those of an earlier run included.
    public var doneByteCount: UInt64 = 0
    public var byteCount: UInt64 = 0
    public var doneLeafCount = 0
    public var leafCount = 0
    /// What an earlier run had left, verified again.
    public var resumedByteCount: UInt64 = 0
    /// The speed of the last seconds.
    public var bytesPerSecond: Double = 0
    /// Nil while nothing has come.
    public var timeLeft: Duration?
    /// Peers that leaves are being asked from.
    public var activePeerCount = 0
}

extension FetchPlan {
    struct ProgressState: Sendable {
        let byteCount: UInt64
        var doneByteCount: UInt64 = 0
        var doneLeafCount = 0
        var localByteCount: UInt64 = 0
        private var speed: Double?
        private var spanStart: Instant
        private var spanByteCount = 0

        init(byteCount: UInt64, startedAt: Instant) {
            self.byteCount = byteCount
            spanStart = startedAt
        }

        mutating func local(_ size: Int) { localByteCount += UInt64(size) }

        mutating func finished(_ size: Int, now: Instant) {
            doneByteCount += UInt64(size)
            doneLeafCount += 1
            spanByteCount += size
            let elapsed = (now - spanStart).secondsAsDouble
            guard elapsed >= 0.25 else { return }
            let measured = Double(spanByteCount) / elapsed
            speed = speed.map { $0 * 0.7 + measured * 0.3 } ?? measured
            spanStart = now
            spanByteCount = 0
        }

        func bytesPerSecond(now: Instant) -> Double {
            let elapsed = (now - spanStart).secondsAsDouble
            // A span that drags on pulls the figure down even though nothing arrives to close it.
            guard elapsed > 1 else { return speed ?? (elapsed > 0 ? Double(spanByteCount) / elapsed : 0) }
            let current = Double(spanByteCount) / elapsed
            return speed.map { min($0, max(current, $0 / elapsed)) } ?? current
        }
    }

    /// How far the fetch is.
    public func progress(now: Instant) -> FetchProgress {
        var result = FetchProgress()
        result.doneByteCount = progressState.doneByteCount
        result.byteCount = progressState.byteCount
        result.doneLeafCount = progressState.doneLeafCount
        result.leafCount = leaves.count
        result.resumedByteCount = progressState.localByteCount
        result.bytesPerSecond = progressState.bytesPerSecond(now: now)
        result.activePeerCount = peers.count { $0.isReady }
        if result.bytesPerSecond > 1 {
            let seconds = Double(result.byteCount - result.doneByteCount) / result.bytesPerSecond
            result.timeLeft = .seconds(min(seconds, 1e9))
        }
        return result
    }

    /// The bytes that a peer brought and that proved right.
    public func verifiedByteCount(of peer: Peer) -> UInt64 { peers[peer.index].verifiedByteCount }

    /// The peer's speed in bytes a second; nil before it is known.
    public func bytesPerSecond(of peer: Peer) -> Double? { peers[peer.index].speed }
}
