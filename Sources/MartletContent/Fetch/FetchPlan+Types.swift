import MartletCore

extension FetchPlan {
    public struct Configuration: Hashable, Sendable {
        /// What a peer is asked for ahead before its speed is known.
        public var initialWindowByteCount = 8 << 20
        /// What a peer is asked for ahead at most.
        public var maximumWindowByteCount = 32 << 20
        /// A peer of known speed is asked for as much as it sends in this time.
        public var windowDuration = Duration.milliseconds(400)
        /// The most that one request asks for: small enough to be cancelled or given to others.
        public var batchByteCount = 4 << 20
        /// The same in leaves.
        public var maximumBatchLeaves = 256
        /// The most leaves that a peer is asked for ahead, however small they are.
        public var maximumOutstandingLeaves = 768
        /// A peer from which nothing came for this long, while others could be asked, is dropped.
        public var stallTimeout = Duration.seconds(5)
        /// The same for the only peer.
        public var lostTimeout = Duration.seconds(30)
        /// What a peer was asked for over a connection that is left for a better one is awaited for so long.
        public var moveTimeout = Duration.seconds(1)
        /// How long a peer that is too busy is left alone.
        public var busyPause = Duration.milliseconds(500)
        /// A peer that lacks more leaves than this is dropped.
        public var maximumLackingLeaves = 1024
        public var maximumPeers = 64

        public init() {}
    }

    /// The sizes of a file's leaves without a number for each: all alike but for the last, or, where a graph was built
    /// otherwise, one by one.
    public enum LeafSizes: Hashable, Sendable {
        case regular(byteCount: Int, last: Int, count: Int)
        case each([UInt32])

        public init(_ manifest: Manifest) {
            let leaves = manifest.leaves
            if let first = leaves.first, let last = leaves.last,
                leaves.dropLast().allSatisfy({ $0.byteCount == first.byteCount })
            {
                self = .regular(byteCount: Int(first.byteCount), last: Int(last.byteCount), count: leaves.count)
            } else {
                self = .each(leaves.map(\.byteCount))
            }
        }

        public var count: Int {
            switch self {
            case .regular(_, _, let count): count
            case .each(let sizes): sizes.count
            }
        }

        public var byteCount: UInt64 {
            switch self {
            case .regular(let size, let last, let count):
                count == 0 ? 0 : UInt64(size) * UInt64(count - 1) + UInt64(last)
            case .each(let sizes): sizes.reduce(UInt64(0)) { $0 + UInt64($1) }
            }
        }

        public subscript(leaf: Int) -> Int {
            switch self {
            case .regular(let size, let last, let count): leaf == count - 1 ? last : size
            case .each(let sizes): Int(sizes[leaf])
            }
        }
    }

    /// A peer as the plan sees it.
    struct PeerState: Sendable {
        enum Phase: Sendable {
            /// Not connected (yet, or not any more). To `.ready` or `.gone`.
            case away(DropReason?)
            /// To `.away` or `.gone`.
            case ready
            /// Not used again.
            case gone(DropReason)
        }

        var phase = Phase.away(nil)
        /// Leaves asked for, in the order in which they were; those first that come first.
        var outstanding: [Int] = []
        var outstandingByteCount = 0
        /// Leaves that it said it does not have. Looked up only.
        var lacking: Set<Int> = []
        var pausedUntil = Instant(nanoseconds: .min)
        var lastProgress = Instant(nanoseconds: .min)
        /// When a better connection was there; nil while this one is the best.
        var movingSince: Instant?
        /// What it sends is not being read.
        var isHeldUp = false
        var verifiedByteCount: UInt64 = 0
        /// Bytes a second, smoothed; nil until measured.
        var speed: Double?
        private var measuredByteCount = 0
        private var measuringSince: Instant?

        var isReady: Bool {
            if case .ready = phase { return true }
            return false
        }

        var isGone: Bool {
            if case .gone = phase { return true }
            return false
        }

        /// Notes received bytes and measures the speed over spans of at least 50 ms in which something was asked for.
        mutating func received(_ byteCount: Int, now: Instant) {
            lastProgress = now
            measuredByteCount += byteCount
            guard let since = measuringSince else {
                measuringSince = now
                measuredByteCount = 0
                return
            }
            let elapsed = (now - since).secondsAsDouble
            guard elapsed >= 0.05 else { return }
            let measured = Double(measuredByteCount) / elapsed
            speed = speed.map { $0 * 0.7 + measured * 0.3 } ?? measured
            measuringSince = now
            measuredByteCount = 0
        }

        mutating func asked(_ leaf: Int, _ byteCount: Int, now: Instant) {
            if outstanding.isEmpty {
                // Time without anything to send says nothing about speed.
                measuringSince = nil
                lastProgress = now
            }
            outstanding.append(leaf)
            outstandingByteCount += byteCount
        }

        @discardableResult
        mutating func removeOutstanding(_ leaf: Int, _ byteCount: Int) -> Bool {
            // Nearly always the first one.
            guard let index = outstanding.firstIndex(of: leaf) else { return false }
            outstanding.remove(at: index)
            outstandingByteCount -= byteCount
            return true
        }
    }
}
