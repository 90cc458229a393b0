import DequeModule
import MartletConnection
public import MartletCore
public import MartletIdentity

/// The peers of a node: whom to dial and how, which connections to keep, what is known of whom.
///
/// Sans-I/O and confined to one loop. Connections themselves live elsewhere, perhaps on other loops; the swarm knows them
/// by id, hears their events and gives orders.
public final class Swarm {
    public let local: LocalPeer
    public let limits: SwarmLimits
    public let dialSettings: DialSettings
    /// Whether peers of another network (identify's protocol version) are sent away.
    public let isNetworkExclusive: Bool
    public internal(set) var peers: PeerStore
    /// What the wall clock showed at `Instant` zero: so machines need not read it.
    private let epoch: WallTime
    var random: RandomSource

    var connections: [ConnectionID: Connection] = [:]
    var byPeer: [PeerID: [ConnectionID]] = [:]
    /// The connection to use for each peer, as it was last told.
    var bestByPeer: [PeerID: ConnectionID] = [:]
    var pendingInbound = 0
    var inboundByAddress: [Multiaddr: Int] = [:]
    var protected: [PeerID: Set<ProtectionReason>] = [:]
    /// Relays may be of any network: what passes through them is sealed, and says what network it is of at its end.
    var relays: Set<PeerID> = []
    private var usedRelays: Deque<PeerID> = []
    private static let usedRelayLimit = 256

    var dials: [DialID: Dial] = [:]
    var dialByPeer: [PeerID: DialID] = [:]
    var resolutions: [RequestID: DialID] = [:]
    var kept: [KeptPeer] = []

    private var orders: Deque<SwarmOrder> = []
    private var lastConnection: UInt64 = 0
    private var lastDial: UInt64 = 0
    private var lastResolution: UInt64 = 0

    /// What the swarm knows of one connection.
    struct Connection {
        let role: ConnectionRole
        let remoteAddress: Multiaddr
        let createdAt: Instant
        var peer: PeerID?
        var dial: DialID?
        var establishedAt: Instant?
        var roundTrip: (time: Duration, at: Instant)?
        var isBusy = false
        var isRetiring = false
        var closing: String?
        var limit: ConnectionLimit?

        var path: PathKind { PathKind(to: remoteAddress) }
    }

    public init(
        local: LocalPeer, limits: SwarmLimits = SwarmLimits(), dialSettings: DialSettings = DialSettings(),
        isNetworkExclusive: Bool = false, random: RandomSource, now: Instant, wallTime: WallTime
    ) {
        self.random = random
        epoch = WallTime(nanosecondsSince1970: wallTime.nanosecondsSince1970 - now.nanoseconds)
        self.local = local
        self.limits = limits
        self.dialSettings = dialSettings
        self.isNetworkExclusive = isNetworkExclusive
        peers = PeerStore(capacity: limits.maximumPeersKnown)
    }

    // MARK: Output

    public func nextOrder() -> SwarmOrder? { orders.popFirst() }

    /// The earliest moment at which `handleTimeout` has work.
    public var deadline: Instant? {
        let dial = dials.values.lazy.map(\.deadline).min()
        let keep = kept.lazy.compactMap(\.nextAttempt).min()
        let trim = trimDeadline
        return [dial, keep, trim].compactMap(\.self).min()
    }

    public func handleTimeout(now: Instant) {
        advanceDials(now: now)
        dialKeptPeers(now: now)
        trim(now: now)
    }

    func order(_ order: SwarmOrder) { orders.append(order) }

    // MARK: What is there

    /// The connection to use for `peer`: of those on the best kind of path the oldest that is not on its way out.
    public func connection(to peer: PeerID) -> ConnectionID? {
        var best: (id: ConnectionID, connection: Connection)?
        for id in byPeer[peer] ?? [] {
            guard let connection = connections[id], connection.closing == nil else { continue }
            guard let old = best?.connection else {
                best = (id, connection)
                continue
            }
            let isBetter =
                old.isRetiring == connection.isRetiring ? old.path < connection.path : old.isRetiring
            if isBetter { best = (id, connection) }
        }
        return best?.id
    }

    /// Tells when another connection than before is the one to use for a peer that stays connected. One that was on its way
    /// out is that only when none is left beside it, and then it stays.
    func noteBestConnection(to peer: PeerID) {
        let best = connection(to: peer)
        if let best, connections[best]?.isRetiring == true {
            connections[best]?.isRetiring = false
            order(.reinstate(best))
        }
        let old = bestByPeer[peer]
        guard best != old else { return }
        bestByPeer[peer] = best
        guard old != nil, let best, let path = connections[best]?.path else { return }
        order(.event(.pathChanged(peer, best, path)))
    }

    public var connectedPeers: [PeerID] { byPeer.keys.sorted() }
    public var connectionCount: Int { connections.count }

    /// Every established connection, in the order of the ids.
    public var connectionInfos: [ConnectionInfo] {
        connections.sorted { $0.key < $1.key }.compactMap { id, connection in
            guard let peer = connection.peer, let establishedAt = connection.establishedAt else { return nil }
            let known = peers[peer]
            return ConnectionInfo(
                id: id, peer: peer, role: connection.role, remoteAddress: connection.remoteAddress,
                establishedAt: establishedAt, roundTrip: connection.roundTrip?.time,
                roundTripAt: connection.roundTrip?.at, agentVersion: known?.agentVersion,
                protocols: known?.protocols ?? [], isRetiring: connection.isRetiring, path: connection.path,
                limit: connection.limit)
        }
    }

    /// How the bytes of a connection travel; nil when it is gone.
    public func path(of id: ConnectionID) -> PathKind? { connections[id]?.path }

    /// The latest round-trip time of a connection.
    public func roundTrip(of id: ConnectionID) -> Duration? { connections[id]?.roundTrip?.time }

    /// A relay said how much it lets through on a connection.
    public func setLimit(_ limit: ConnectionLimit, of id: ConnectionID) { connections[id]?.limit = limit }

    /// Never trims connections to `peer`, until it is unprotected for every reason it was protected for.
    public func protect(_ peer: PeerID, for reason: ProtectionReason) { protected[peer, default: []].insert(reason) }

    public func unprotect(_ peer: PeerID, for reason: ProtectionReason) {
        guard var reasons = protected[peer] else { return }
        reasons.remove(reason)
        protected[peer] = reasons.isEmpty ? nil : reasons
    }

    /// Uses `peer` as a relay from now on: it is not sent away for naming another network.
    ///
    /// - Parameter isLasting: for a relay that the node was given. Those that addresses of peers name are remembered as far as
    ///   there is room, the latest ones.
    public func useRelay(_ peer: PeerID, isLasting: Bool) {
        guard relays.insert(peer).inserted, !isLasting else { return }
        usedRelays.append(peer)
        if usedRelays.count > Self.usedRelayLimit, let oldest = usedRelays.popFirst() { relays.remove(oldest) }
    }

    /// Takes in a peer stored by an earlier run.
    public func loadPeer(_ stored: [UInt8], of peer: PeerID) { peers.load(stored, of: peer) }

    /// Peers to be written to disk, or removed from it.
    public func takePeerChanges() -> [(PeerID, [UInt8]?)] { peers.takeChanges() }

    /// Whether a connection was ordered to close, or is unknown.
    public func isClosing(_ id: ConnectionID) -> Bool { connections[id].map { $0.closing != nil } ?? true }

    func wallTime(at now: Instant) -> WallTime {
        WallTime(nanosecondsSince1970: epoch.nanosecondsSince1970 + now.nanoseconds)
    }

    public var hasPeerChanges: Bool { peers.hasChanges }

    func isKept(_ peer: PeerID) -> Bool { byPeer[peer] != nil || protected[peer] != nil || dialByPeer[peer] != nil }

    // MARK: This node changed

    /// Sets the addresses peers are told of, and tells them.
    public func setListenAddresses(_ addresses: [Multiaddr]) {
        guard local.listenAddresses != addresses else { return }
        local.setListenAddresses(addresses)
        pushIdentify()
    }

    /// Tells connected peers what changed about this node.
    public func pushIdentify() {
        for id in connections.keys.sorted() where connections[id]?.peer != nil && connections[id]?.closing == nil {
            order(.pushIdentify(id))
        }
    }

    // MARK: Closing

    /// Closes every connection to `peer`.
    public func disconnect(_ peer: PeerID, reason: String) {
        kept.removeAll { $0.peer == peer }
        for id in byPeer[peer] ?? [] { close(id, reason) }
    }

    func close(_ id: ConnectionID, _ reason: String) {
        guard connections[id] != nil, connections[id]?.closing == nil else { return }
        connections[id]?.closing = reason
        order(.close(id, reason))
        if let peer = connections[id]?.peer { noteBestConnection(to: peer) }
    }

    func makeConnectionID() -> ConnectionID {
        lastConnection += 1
        return ConnectionID(rawValue: lastConnection)
    }

    func makeDialID() -> DialID {
        lastDial += 1
        return DialID(rawValue: lastDial)
    }

    func makeResolutionID() -> RequestID {
        lastResolution += 1
        return RequestID(rawValue: lastResolution)
    }
}
