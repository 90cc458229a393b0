public import MartletCore
public import MartletIdentity
import SwiftProtobuf

/// What a node knows of one peer.
public struct KnownPeer: Hashable, Sendable {
    /// Where it may be reached, best first.
    public var addresses: [Multiaddr] = []
    public var protocols: [String] = []
    public var agentVersion: String?
    public var signedRecord: [UInt8]?
    public var recordSequence: UInt64 = 0
    public var lastSeen = WallTime(nanosecondsSince1970: 0)

    public init() {}
}

/// The peers that a node knows of, bounded in number and in what each may make it remember.
///
/// Machines hold it in memory; changes are handed out by `takeChanges()` to be written to disk.
public struct PeerStore: Sendable {
    public static let addressLimit = 32
    static let protocolLimit = 256

    public let capacity: Int
    private var peers: [PeerID: KnownPeer] = [:]
    /// Order of last use, the oldest first; a peer's position is looked up by scanning, which only eviction does.
    private var changed: [PeerID] = []
    private var changedSet: Set<PeerID> = []

    public init(capacity: Int = 10_000) {
        self.capacity = capacity
    }

    public subscript(peer: PeerID) -> KnownPeer? { peers[peer] }
    public var count: Int { peers.count }
    public var peerIDs: [PeerID] { peers.keys.sorted() }

    /// Notes addresses that worked or that somebody named, in front of those known.
    public mutating func add(addresses: [Multiaddr], of peer: PeerID, keeping isKept: (PeerID) -> Bool) {
        guard makeRoom(for: peer, keeping: isKept) else { return }
        var known = peers[peer] ?? KnownPeer()
        let merged = addresses + known.addresses.filter { !addresses.contains($0) }
        let bounded = Array(merged.prefix(Self.addressLimit))
        guard bounded != known.addresses || peers[peer] == nil else { return }
        known.addresses = bounded
        set(known, of: peer)
    }

    /// Takes in what a connected peer said of itself. A signed record with an older sequence number is ignored, and a
    /// newer one replaces the addresses that the older one named.
    public mutating func update(
        _ peer: PeerID, with info: IdentifyInfo, now: WallTime, keeping isKept: (PeerID) -> Bool
    ) {
        guard makeRoom(for: peer, keeping: isKept) else { return }
        var known = peers[peer] ?? KnownPeer()
        let isStale = info.recordSequence.map { $0 < known.recordSequence } ?? false
        if let addresses = info.listenAddresses, !isStale {
            let bare = addresses.map(\.withoutPeerID)
            known.addresses = Array(
                (info.signedRecord == nil ? bare + known.addresses.filter { !bare.contains($0) } : bare)
                    .prefix(Self.addressLimit))
        }
        if let record = info.signedRecord, let sequence = info.recordSequence, !isStale {
            known.signedRecord = record
            known.recordSequence = sequence
        }
        if let protocols = info.protocols {
            known.protocols =
                protocols.count <= Self.protocolLimit ? protocols : Array(protocols.prefix(Self.protocolLimit))
        }
        if let agent = info.agentVersion { known.agentVersion = agent }
        known.lastSeen = now
        set(known, of: peer)
    }

    private mutating func set(_ known: KnownPeer, of peer: PeerID) {
        peers[peer] = known
        if changedSet.insert(peer).inserted { changed.append(peer) }
    }

    /// Forgets the peer seen longest ago that nobody needs. False when all are needed.
    private mutating func makeRoom(for peer: PeerID, keeping isKept: (PeerID) -> Bool) -> Bool {
        guard peers[peer] == nil, peers.count >= capacity else { return true }
        let oldest = peers.filter { !isKept($0.key) }
            .min { ($0.value.lastSeen, $0.key) < ($1.value.lastSeen, $1.key) }
        guard let oldest else { return false }
        remove(oldest.key)
        return true
    }

    public mutating func remove(_ peer: PeerID) {
        peers[peer] = nil
        if changedSet.insert(peer).inserted { changed.append(peer) }
    }

    // MARK: Persistence

    /// Peers that changed since the last call, with their stored form, or nil when they were forgotten.
    public mutating func takeChanges() -> [(PeerID, [UInt8]?)] {
        defer {
            changed = []
            changedSet = []
        }
        return changed.map { ($0, peers[$0]?.encoded) }
    }

    public var hasChanges: Bool { !changed.isEmpty }

    /// Takes in what an earlier run stored. Damaged entries are skipped.
    public mutating func load(_ stored: [UInt8], of peer: PeerID) {
        guard peers.count < capacity, let known = KnownPeer(encoded: stored) else { return }
        peers[peer] = known
    }
}

extension KnownPeer {
    var encoded: [UInt8] {
        var message = StoredPeerProtobuf()
        message.addresses = addresses.map { protobufData($0.bytes) }
        message.protocols = protocols
        if let agentVersion { message.agentVersion = agentVersion }
        if let signedRecord { message.signedPeerRecord = protobufData(signedRecord) }
        message.recordSequence = recordSequence
        message.lastSeen = lastSeen.nanosecondsSince1970 / 1_000_000_000
        return (try? message.serializedBytes()) ?? []
    }

    init?(encoded: [UInt8]) {
        guard let message = try? StoredPeerProtobuf(serializedBytes: encoded) else { return nil }
        self.init()
        addresses = message.addresses.prefix(PeerStore.addressLimit).compactMap { try? Multiaddr(bytes: Array($0)) }
        protocols = Array(message.protocols.prefix(PeerStore.protocolLimit))
        agentVersion = message.hasAgentVersion ? message.agentVersion : nil
        signedRecord = message.hasSignedPeerRecord ? Array(message.signedPeerRecord) : nil
        recordSequence = message.recordSequence
        let (nanoseconds, overflow) = message.lastSeen.multipliedReportingOverflow(by: 1_000_000_000)
        lastSeen = WallTime(nanosecondsSince1970: overflow ? 0 : nanoseconds)
    }
}
