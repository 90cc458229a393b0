import MartletConnection
public import MartletCore
import MartletIdentity

/// Why an inbound connection is not taken.
public struct RefusedConnection: Error, Hashable, Sendable, CustomStringConvertible {
    public let limit: String
    public var description: String { "the limit on \(limit) is reached" }
}

extension Swarm {
    // MARK: Input from connections

    /// A connection came in. Returns its id, or the limit that it would break; then the transport is to be closed.
    public func accepted(from remoteAddress: Multiaddr, now: Instant) throws(RefusedConnection) -> ConnectionID {
        guard connections.count < limits.maximumConnections else { throw RefusedConnection(limit: "connections") }
        guard pendingInbound < limits.maximumPendingInbound else {
            throw RefusedConnection(limit: "inbound handshakes under way")
        }
        let host = remoteAddress.host
        let count = inboundByAddress[host] ?? 0
        guard remoteAddress.isLoopback || count < limits.maximumInboundPerAddress else {
            throw RefusedConnection(limit: "connections from \(host)")
        }
        inboundByAddress[host] = count + 1
        pendingInbound += 1
        let id = makeConnectionID()
        connections[id] = Connection(role: .listener, remoteAddress: remoteAddress, createdAt: now)
        return id
    }

    /// A connection is being made to `remoteAddress` by punching holes, outside of any dial. Its owner gives it up by `abandon`.
    public func punching(to remoteAddress: Multiaddr, now: Instant) throws(RefusedConnection) -> ConnectionID {
        guard connections.count < limits.maximumConnections else { throw RefusedConnection(limit: "connections") }
        let id = makeConnectionID()
        connections[id] = Connection(role: .dialer, remoteAddress: remoteAddress, createdAt: now)
        return id
    }

    /// Closes a connection unless it is established.
    public func abandon(_ id: ConnectionID, _ reason: String) {
        if connections[id]?.peer == nil { close(id, reason) }
    }

    /// A connection reports. Events of ids unknown here (closed meanwhile) are ignored.
    public func connection(_ id: ConnectionID, reports event: PeerConnectionEvent, now: Instant) {
        switch event {
        case .established(let identity): established(id, identity.peerID, now: now)
        case .identified(let info, _): identified(id, info, now: now)
        case .identifyFailed: break
        case .roundTrip(let time): connections[id]?.roundTrip = (time, now)
        case .usage(let isBusy): connections[id]?.isBusy = isBusy
        case .closed(let reason): closed(id, reason, now: now)
        }
    }

    private func established(_ id: ConnectionID, _ peer: PeerID, now: Instant) {
        guard var connection = connections[id], connection.peer == nil, connection.closing == nil else { return }
        if connection.role == .listener { pendingInbound -= 1 }
        connection.peer = peer
        connection.establishedAt = now
        connections[id] = connection
        let others = byPeer[peer] ?? []
        if peer == local.peerID {
            return close(id, "this node connected to itself")
        }
        if others.count >= limits.maximumConnectionsPerPeer {
            return close(id, "the limit on connections per peer is reached")
        }
        byPeer[peer] = others + [id]
        if others.isEmpty {
            order(.event(.connected(peer, address: connection.remoteAddress, role: connection.role)))
        }
        if connection.role == .dialer {
            peers.add(addresses: [connection.remoteAddress.withoutPeerID], of: peer, keeping: isKept)
        }
        resolveDuplicates(of: peer)
        noteBestConnection(to: peer)
        if let dial = connection.dial { finish(dial, with: peer, now: now) }
        if let dial = dialByPeer[peer] { finish(dial, with: peer, now: now) }
        trim(now: now)
    }

    /// Two nodes that dial each other at once get two connections. Both keep the one that the smaller peer id dialed, and
    /// let the other go when it is idle; of several dialed by this node, the oldest stays. A relayed connection beside one
    /// that is not goes in any case.
    private func resolveDuplicates(of peer: PeerID) {
        var ids = (byPeer[peer] ?? []).filter {
            connections[$0]?.closing == nil && connections[$0]?.isRetiring == false
        }
        let relayed = ids.filter { connections[$0]?.path == .relayed }
        if relayed.count < ids.count {
            for id in relayed { retire(id) }
            ids.removeAll { relayed.contains($0) }
        }
        guard ids.count > 1 else { return }
        let preferred: ConnectionRole = local.peerID < peer ? .dialer : .listener
        let favourites = ids.filter { connections[$0]?.role == preferred }
        guard !favourites.isEmpty else {
            // All of one kind: only the side that dialed them may choose, or the two could choose differently.
            if preferred == .listener { for id in ids.dropFirst() { retire(id) } }
            return
        }
        for id in ids where connections[id]?.role != preferred { retire(id) }
        if preferred == .dialer { for id in favourites.dropFirst() { retire(id) } }
    }

    private func retire(_ id: ConnectionID) {
        connections[id]?.isRetiring = true
        order(.retire(id))
    }

    private func identified(_ id: ConnectionID, _ info: IdentifyInfo, now: Instant) {
        guard let connection = connections[id], let peer = connection.peer, connection.closing == nil else { return }
        if isNetworkExclusive, !relays.contains(peer), let version = info.protocolVersion, version != local.network {
            return close(id, "the peer is of network \"\(version)\", this node of \"\(local.network)\"")
        }
        peers.update(peer, with: info, now: wallTime(at: now), keeping: isKept)
        order(.event(.identified(peer, info)))
    }

    private func closed(_ id: ConnectionID, _ reason: ConnectionCloseReason, now: Instant) {
        guard let connection = connections.removeValue(forKey: id) else { return }
        if connection.role == .listener {
            if connection.peer == nil { pendingInbound -= 1 }
            let host = connection.remoteAddress.host
            let left = (inboundByAddress[host] ?? 1) - 1
            inboundByAddress[host] = left > 0 ? left : nil
        }
        if let dial = connection.dial {
            let isRefusal = connection.closing != nil && dials[dial]?.isRefused(connection.remoteAddress) ?? false
            attemptFailed(
                dial, connection.remoteAddress, "\(connection.closing ?? "\(reason)")", isRefusal: isRefusal,
                mayPass: connection.closing == nil && reason.isTransportFailure, now: now)
        }
        guard let peer = connection.peer, var ids = byPeer[peer], let index = ids.firstIndex(of: id) else { return }
        ids.remove(at: index)
        byPeer[peer] = ids.isEmpty ? nil : ids
        noteBestConnection(to: peer)
        if ids.isEmpty {
            order(.event(.disconnected(peer, reason: reason)))
            keptPeerLost(peer, now: now)
        }
    }

    // MARK: Keeping within limits

    /// Closes the least useful connections above the high mark: those of peers that are neither protected nor in use, past
    /// their grace period; inbound before outbound, the youngest first.
    func trim(now: Instant) {
        guard connections.count > limits.highWaterConnections else { return }
        let surplus = connections.count - limits.lowWaterConnections
        let candidates = connections.filter { _, connection in
            guard let peer = connection.peer, connection.closing == nil, !connection.isBusy else { return false }
            return now - connection.createdAt >= limits.gracePeriod && protected[peer] == nil
        }
        let ranked = candidates.sorted { left, right in
            if left.value.role != right.value.role { return left.value.role == .listener }
            return left.key > right.key
        }
        for (id, _) in ranked.prefix(surplus) { close(id, "trimmed: too many connections") }
    }

    /// When the oldest connection in its grace period may be trimmed, while there are too many.
    var trimDeadline: Instant? {
        guard connections.count > limits.highWaterConnections else { return nil }
        return connections.values.lazy.filter {
            $0.closing == nil && !$0.isBusy && $0.peer.map { self.protected[$0] == nil } == true
        }
        .map { $0.createdAt + self.limits.gracePeriod }.min()
    }
}
