import MartletConnection
public import MartletCore
public import MartletIdentity

/// Names one dial: the search for a connection to one peer over all its addresses.
struct DialID: Hashable, Comparable, Sendable {
    let rawValue: UInt64
    static func < (left: DialID, right: DialID) -> Bool { left.rawValue < right.rawValue }
}

/// A dial under way.
struct Dial {
    let peer: PeerID?
    var race: AddressRace
    let startedAt: Instant
    let expiresAt: Instant
    var requests: [RequestID]
    /// Attempts under way and when each is given up.
    var attempts: [(id: ConnectionID, address: Multiaddr, expiresAt: Instant)] = []

    var deadline: Instant {
        let attempt = attempts.lazy.map(\.expiresAt).min() ?? .distantFuture
        return min(expiresAt, race.deadline ?? .distantFuture, attempt)
    }
}

/// A peer that the node keeps a connection to, dialing again when it is lost.
struct KeptPeer {
    var peer: PeerID?
    let address: Multiaddr
    var nextAttempt: Instant?
    var backoff: Duration = .seconds(1)
    static let maximumBackoff = Duration.seconds(60)
}

extension Swarm {
    // MARK: Input from the application

    /// Finds or makes a connection to `peer`, over `addresses` and those known of it. `completed` answers.
    ///
    /// - Parameter peer: nil takes whoever answers at the addresses.
    public func connect(_ request: RequestID, to peer: PeerID?, at addresses: [Multiaddr], now: Instant) {
        if peer == local.peerID { return order(.completed(request, .failure(.isSelf))) }
        if let peer, let connection = connection(to: peer) {
            return order(.completed(request, .success(ConnectedPeer(peer: peer, connection: connection))))
        }
        if let peer, let id = dialByPeer[peer] {
            dials[id]?.requests.append(request)
            dials[id]?.race.add(addresses.map(\.withoutPeerID))
            return advanceDials(now: now)
        }
        let known = peer.flatMap { peers[$0]?.addresses } ?? []
        let candidates = addresses.map(\.withoutPeerID) + known
        guard !candidates.isEmpty else { return order(.completed(request, .failure(.noAddresses(peer)))) }
        guard dials.count < limits.maximumPendingDials else {
            return order(.completed(request, .failure(.limitReached("dials under way"))))
        }
        let id = makeDialID()
        dials[id] = Dial(
            peer: peer, race: AddressRace(addresses: candidates, now: now), startedAt: now,
            expiresAt: now + dialSettings.timeout, requests: [request])
        if let peer { dialByPeer[peer] = id }
        advanceDials(now: now)
    }

    /// Gives up waiting for the answer; the dial goes on while others wait for it.
    public func cancel(_ request: RequestID, now: Instant) {
        for id in dials.keys.sorted() where dials[id]?.requests.contains(request) == true {
            dials[id]?.requests.removeAll { $0 == request }
            order(.completed(request, .failure(.cancelled)))
            if dials[id]?.requests.isEmpty == true { end(id) }
        }
    }

    /// Connects to the peer at `address` now and again whenever the connection is lost, waiting longer after each failure.
    public func keepConnected(to address: Multiaddr, now: Instant) {
        kept.append(KeptPeer(peer: address.peerID, address: address, nextAttempt: now))
        if let peer = address.peerID { protect(peer) }
        dialKeptPeers(now: now)
    }

    // MARK: Input from the driver

    /// The transport for an attempt could not be made.
    public func dialFailed(_ id: ConnectionID, reason: String, now: Instant) {
        guard let connection = connections.removeValue(forKey: id), let dial = connection.dial else { return }
        attemptFailed(dial, connection.remoteAddress, connection.closing ?? reason, now: now)
    }

    /// The names in an address were looked up, or could not be.
    public func resolved(_ id: RequestID, _ address: Multiaddr, _ result: Result<[Multiaddr], DialReason>, now: Instant)
    {
        guard let dial = resolutions.removeValue(forKey: id), dials[dial] != nil else { return }
        dials[dial]?.race.finishedResolving(now: now)
        switch result {
        case .success(let addresses):
            let wanted = addresses.filter {
                $0.peerID == nil || dials[dial]?.peer == nil || $0.peerID == dials[dial]?.peer
            }
            if wanted.isEmpty {
                dials[dial]?.race.failed(address, reason: "the name has no address of this peer", now: now)
            } else {
                dials[dial]?.race.add(wanted.map(\.withoutPeerID))
            }
        case .failure(let reason):
            dials[dial]?.race.failed(address, reason: reason.text, now: now)
        }
        advanceDials(now: now)
    }

    // MARK: Progress

    func advanceDials(now: Instant) {
        for id in dials.keys.sorted() { advance(id, now: now) }
    }

    private func advance(_ id: DialID, now: Instant) {
        if let dial = dials[id], now >= dial.expiresAt {
            return fail(id, .timedOut(dialSettings.timeout, dial.race.failures))
        }
        for attempt in dials[id]?.attempts ?? [] where now >= attempt.expiresAt {
            close(attempt.id, "no answer within \(dialSettings.attemptTimeout)")
        }
        while let address = dials[id]?.race.nextAttempt(now: now) { start(address, of: id, now: now) }
        if let dial = dials[id], dial.race.isLost { fail(id, .allFailed(dial.race.failures)) }
    }

    private func start(_ address: Multiaddr, of id: DialID, now: Instant) {
        if address.needsResolution {
            dials[id]?.race.resolvingInsteadOfRunning(address)
            let resolution = makeResolutionID()
            resolutions[resolution] = id
            return order(.resolve(resolution, address))
        }
        guard address.isDialableStream || address.isDialableQUIC else {
            dials[id]?.race.failed(address, reason: "no transport for this kind of address", now: now)
            return
        }
        guard connections.count < limits.maximumConnections else {
            dials[id]?.race.failed(address, reason: "the limit on connections is reached", now: now)
            return
        }
        let connection = makeConnectionID()
        connections[connection] = Connection(role: .dialer, remoteAddress: address, createdAt: now, dial: id)
        dials[id]?.attempts.append((connection, address, now + dialSettings.attemptTimeout))
        order(.dial(connection, address, expecting: dials[id]?.peer))
    }

    func attemptFailed(_ id: DialID, _ address: Multiaddr, _ reason: String, now: Instant) {
        guard dials[id] != nil else { return }
        dials[id]?.attempts.removeAll { $0.address == address }
        dials[id]?.race.failed(address, reason: reason, now: now)
        advance(id, now: now)
    }

    /// A connection to the peer of this dial is there: everybody who waits gets it, and the other attempts end.
    func finish(_ id: DialID, with peer: PeerID, now: Instant) {
        guard let dial = dials[id], let connection = connection(to: peer) else { return }
        for request in dial.requests {
            order(.completed(request, .success(ConnectedPeer(peer: peer, connection: connection))))
        }
        keptPeerConnected(dial, peer)
        end(id)
    }

    private func fail(_ id: DialID, _ error: DialError) {
        for request in dials[id]?.requests ?? [] { order(.completed(request, .failure(error))) }
        end(id)
    }

    private func end(_ id: DialID) {
        guard let dial = dials.removeValue(forKey: id) else { return }
        if let peer = dial.peer { dialByPeer[peer] = nil }
        for attempt in dial.attempts {
            connections[attempt.id]?.dial = nil
            if connections[attempt.id]?.peer == nil { close(attempt.id, "another address was faster") }
        }
    }

    // MARK: Peers to keep

    /// Requests that the swarm makes of itself; their answers go nowhere.
    private static let ownRequest = RequestID(rawValue: .max)

    func dialKeptPeers(now: Instant) {
        for index in kept.indices {
            guard let next = kept[index].nextAttempt, now >= next else { continue }
            if let peer = kept[index].peer, byPeer[peer] != nil {
                kept[index].nextAttempt = nil
                continue
            }
            connect(Self.ownRequest, to: kept[index].address.peerID, at: [kept[index].address], now: now)
            kept[index].nextAttempt = now + kept[index].backoff
            kept[index].backoff = min(kept[index].backoff * 2, KeptPeer.maximumBackoff)
        }
    }

    private func keptPeerConnected(_ dial: Dial, _ peer: PeerID) {
        for index in kept.indices
        where kept[index].peer == peer || (kept[index].peer == nil && dial.requests.contains(Self.ownRequest)) {
            kept[index].peer = peer
            kept[index].nextAttempt = nil
            kept[index].backoff = .seconds(1)
        }
    }

    func keptPeerLost(_ peer: PeerID, now: Instant) {
        for index in kept.indices where kept[index].peer == peer { kept[index].nextAttempt = now + kept[index].backoff }
    }
}

/// Why a driver could not do what a dial needed, in words.
public struct DialReason: Error, Hashable, Sendable {
    public let text: String
    public init(_ text: String) { self.text = text }
}
