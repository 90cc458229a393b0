public import MartletCore

/// Decides which peer is asked for which leaves of a file: several peers at once, each with as much ahead as its measured
/// speed is worth, lost and lying peers replaced, the last leaves asked for twice when a slow peer has them.
///
/// A value without I/O: what happened goes in with the time, orders and events come out of `nextOutput`, in an order that
/// depends on the inputs only. Drain the outputs after every input.
public struct FetchPlan: Sendable {
    /// A peer's place in this fetch.
    public struct Peer: Hashable, Comparable, Sendable {
        public let index: Int
        public static func < (left: Peer, right: Peer) -> Bool { left.index < right.index }
    }

    /// What the driver has to do or to tell.
    public enum Output: Hashable, Sendable {
        /// Ask for these leaves, in this order.
        case request(Peer, leaves: [Int])
        /// The peer need not send this leaf any more.
        case cancel(Peer, leaf: Int)
        /// End the stream to this peer.
        case drop(Peer, DropReason)
        /// All leaves are verified. Nothing follows.
        case completed
        /// The fetch cannot go on with these peers. Nothing follows.
        case failed(Failure)
    }

    /// Why a peer is not used, or not for now.
    public enum DropReason: Hashable, Sendable {
        /// It sent this leaf with another content. It is not used again in this fetch.
        case corruptLeaf(Int)
        /// It broke the protocol. It is not used again in this fetch.
        case misbehaved(String)
        /// Nothing came from it for too long. It may be tried again.
        case stalled
        /// It does not have the file any more, or never had it.
        case unavailable(BlockStream.Status)
        /// Its stream or connection ended.
        case disconnected(String)
        /// It could not be reached, as often as was tried.
        case unreachable(String)
        /// It is to go on over a better connection.
        case moved

        /// Whether the peer may be connected to again in this fetch.
        public var isFinal: Bool {
            switch self {
            case .corruptLeaf, .misbehaved, .unavailable, .unreachable: true
            case .stalled, .disconnected, .moved: false
            }
        }
    }

    public enum Failure: Hashable, Sendable {
        /// Every peer was dropped for good; the last reason of each, in the order of the peers.
        case noPeersLeft([DropReason])
        /// No peer that is left has this leaf.
        case leafUnavailable(Int)
    }

    public let configuration: Configuration
    let sizes: LeafSizes
    var leaves: [LeafState]
    /// How many peers are asked for each leaf.
    var holders: [UInt8]
    /// No leaf below this index is missing.
    var lowestMissing = 0
    var missingCount: Int
    var peers: [PeerState] = []
    var outputs: [Output] = []
    var nextOutputIndex = 0
    var isOver = false
    var progressState: ProgressState

    enum LeafState: UInt8 {
        /// To be asked for.
        case missing
        /// Asked for, from `holders` peers.
        case requested
        /// Here, and being verified.
        case received
        /// On the disk from an earlier run, and being verified.
        case local
        case done
    }

    /// - Parameters:
    ///   - sizes: of all leaves, in order.
    ///   - local: leaves that an earlier run says it has; each is to be confirmed by `localLeaf`.
    public init(sizes: LeafSizes, local: [Int] = [], configuration: Configuration = Configuration(), now: Instant) {
        self.configuration = configuration
        self.sizes = sizes
        leaves = Array(repeating: .missing, count: sizes.count)
        holders = Array(repeating: 0, count: sizes.count)
        missingCount = sizes.count
        progressState = ProgressState(byteCount: sizes.byteCount, startedAt: now)
        for leaf in local where leaves[leaf] == .missing {
            leaves[leaf] = .local
            missingCount -= 1
        }
        advanceLowestMissing()
    }

    /// The next order or event; nil when all were taken.
    public mutating func nextOutput() -> Output? {
        guard nextOutputIndex < outputs.count else {
            outputs.removeAll(keepingCapacity: true)
            nextOutputIndex = 0
            return nil
        }
        nextOutputIndex += 1
        return outputs[nextOutputIndex - 1]
    }

    // MARK: Peers

    /// Adds a peer that is being connected to.
    public mutating func addPeer() -> Peer {
        precondition(peers.count < configuration.maximumPeers, "more than \(configuration.maximumPeers) peers")
        peers.append(PeerState())
        return Peer(index: peers.count - 1)
    }

    /// The peer can be asked now.
    public mutating func peerReady(_ peer: Peer, now: Instant) {
        guard !isOver, case .away = peers[peer.index].phase else { return }
        peers[peer.index].phase = .ready
        peers[peer.index].isHeldUp = false
        peers[peer.index].movingSince = nil
        peers[peer.index].lastProgress = now
        assign(now)
    }

    /// There is a better connection to the peer. It is asked for nothing more over this one, and dropped with `.moved`
    /// once it has sent what it was asked for, or when that takes longer than `moveTimeout`.
    public mutating func peerMoves(_ peer: Peer, now: Instant) {
        guard !isOver, peers[peer.index].isReady, peers[peer.index].movingSince == nil else { return }
        peers[peer.index].movingSince = now
        assign(now)
    }

    /// The peer's stream ended or never came to be. `reason` says whether it may come back through `peerReady`.
    public mutating func peerLost(_ peer: Peer, _ reason: DropReason, now: Instant) {
        guard !isOver else { return }
        release(peer, reason)
        assign(now)
        failIfHopeless()
    }

    /// The driver does not read what the peer sends, because it has enough to do: no silence of the peer's.
    public mutating func holdUp(_ peer: Peer, _ isHeldUp: Bool, now: Instant) {
        peers[peer.index].isHeldUp = isHeldUp
        peers[peer.index].lastProgress = now
    }

    // MARK: Leaves

    /// Bytes came from the peer, complete leaves or not.
    public mutating func progress(_ peer: Peer, byteCount: Int, now: Instant) {
        peers[peer.index].received(byteCount, now: now)
    }

    /// A leaf has arrived. False when it is not needed (any more): the driver drops it.
    public mutating func leafReceived(_ leaf: Int, from peer: Peer, now: Instant) -> Bool {
        guard !isOver else { return false }
        peers[peer.index].removeOutstanding(leaf, sizes[leaf])
        releaseHolder(leaf)
        guard leaves[leaf] == .requested || leaves[leaf] == .missing else {
            assign(now)
            return false
        }
        setState(leaf, .received)
        assign(now)
        return true
    }

    /// The leaf's content is right and written down.
    public mutating func leafVerified(_ leaf: Int, from peer: Peer, now: Instant) {
        guard !isOver, leaves[leaf] == .received else { return }
        peers[peer.index].verifiedByteCount += UInt64(sizes[leaf])
        finish(leaf, now)
    }

    /// The leaf's content is wrong: the peer is out, and the leaf is asked for elsewhere.
    public mutating func leafCorrupt(_ leaf: Int, from peer: Peer, now: Instant) {
        guard !isOver else { return }
        if leaves[leaf] == .received { setState(leaf, holders[leaf] > 0 ? .requested : .missing) }
        drop(peer, .corruptLeaf(leaf))
        assign(now)
        failIfHopeless()
    }

    /// The peer says that it will not send the leaf.
    public mutating func leafUnavailable(
        _ leaf: Int, from peer: Peer, _ status: BlockStream.Status, now: Instant
    ) {
        guard !isOver, peers[peer.index].removeOutstanding(leaf, sizes[leaf]) else { return }
        releaseHolder(leaf)
        if leaves[leaf] == .requested, holders[leaf] == 0 { setState(leaf, .missing) }
        switch status {
        case .tooBusy:
            peers[peer.index].pausedUntil = now + configuration.busyPause
        case .notFound, .failed:
            // It may have other leaves: a partial copy, a bad sector.
            peers[peer.index].lacking.insert(leaf)
            if peers[peer.index].lacking.count > configuration.maximumLackingLeaves { drop(peer, .unavailable(status)) }
        case .stale, .refused, .end, .cancelled, .found:
            drop(peer, .unavailable(status))
        }
        assign(now)
        failIfHopeless()
        if !isOver, leaves[leaf] == .missing, isLackedByAll(leaf) { fail(.leafUnavailable(leaf)) }
    }

    /// What became of a leaf that an earlier run had written.
    public mutating func localLeaf(_ leaf: Int, isValid: Bool, now: Instant) {
        guard !isOver, leaves[leaf] == .local else { return }
        if isValid {
            progressState.local(sizes[leaf])
            finish(leaf, now)
        } else {
            setState(leaf, .missing)
            assign(now)
            failIfHopeless()
        }
    }

    /// Time passes: peers that stall are dropped, pauses end. To be called a few times a second.
    public mutating func tick(now: Instant) {
        guard !isOver else { return }
        for index in peers.indices {
            if let since = peers[index].movingSince, now - since > configuration.moveTimeout {
                drop(Peer(index: index), .moved)
            }
            guard peers[index].isReady, !peers[index].isHeldUp, !peers[index].outstanding.isEmpty else { continue }
            let silence = now - peers[index].lastProgress
            let canBeReplaced = peers.indices.contains { $0 != index && peers[$0].isReady }
            if silence > (canBeReplaced ? configuration.stallTimeout : configuration.lostTimeout) {
                drop(Peer(index: index), .stalled)
            }
        }
        assign(now)
        failIfHopeless()
    }
}
