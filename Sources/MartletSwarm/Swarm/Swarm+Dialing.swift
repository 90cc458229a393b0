import MartletConnection
public import MartletCore
public import MartletIdentity

/// Names one dial: the search for a connection to one peer over all its addresses.
struct DialID: Hashable, Comparable, Sendable {
    let rawValue: UInt64
    static func < (left: DialID, right: DialID) -> Bool { left.rawValue < right.rawValue }
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
    /// - Parameters:
    ///   - peer: nil takes whoever answers at the addresses.
    ///   - directly: whether a connection through a relay is no answer, neither one that is there nor a new one.
    public func connect(
        _ request: RequestID, to peer: PeerID?, at addresses: [Multiaddr], directly: Bool = false, now: Instant
    ) {
        if peer == local.peerID { return order(.completed(request, .failure(.isSelf))) }
        if let peer, let connection = connection(to: peer), !directly || path(of: connection) != .relayed {
            return order(.completed(request, .success(ConnectedPeer(peer: peer, connection: connection))))
        }
        let known = peer.flatMap { peers[$0]?.addresses } ?? []
        if let peer, let id = dialByPeer[peer] {
            if directly || dials[id]?.isBackground == false {
                dials[id]?.requests.append(DialRequest(id: request, isDirect: directly))
                dials[id]?.add(candidates(addresses, directly), local: local.peerID)
                return advanceDials(now: now)
            }
            // The relayed connection that this one wanted to better is gone; everything is tried again.
            end(id, answeringWith: .cancelled)
        }
        let candidates = candidates(addresses + known, directly)
        guard !candidates.isEmpty else { return order(.completed(request, .failure(.noAddresses(peer)))) }
        guard dials.count < limits.maximumPendingDials else {
            return order(.completed(request, .failure(.limitReached("dials under way"))))
        }
        let id = makeDialID()
        var dial = Dial(
            peer: peer, addresses: candidates, local: local.peerID, expiresAt: now + dialSettings.timeout, now: now)
        dial.requests = [DialRequest(id: request, isDirect: directly)]
        dials[id] = dial
        if let peer { dialByPeer[peer] = id }
        advanceDials(now: now)
    }

    private func candidates(_ addresses: [Multiaddr], _ directly: Bool) -> [Multiaddr] {
        addresses.filter { !directly || !$0.isCircuit }.map { $0.isCircuit ? $0 : $0.withoutPeerID }
    }

    /// Gives up waiting for the answer; the dial goes on while others wait for it.
    public func cancel(_ request: RequestID, now: Instant) {
        for id in dials.keys.sorted() where dials[id]?.requests.contains(where: { $0.id == request }) == true {
            dials[id]?.requests.removeAll { $0.id == request }
            order(.completed(request, .failure(.cancelled)))
            if dials[id]?.requests.isEmpty == true, dials[id]?.isBackground == false { end(id) }
        }
    }

    /// Connects to the peer at `address` now and again whenever the connection is lost, waiting longer after each failure.
    public func keepConnected(to address: Multiaddr, now: Instant) {
        kept.append(KeptPeer(peer: address.peerID, address: address, nextAttempt: now))
        if let peer = address.peerID { protect(peer, for: .kept) }
        dialKeptPeers(now: now)
    }

    // MARK: Input from the driver

    /// The transport for an attempt could not be made.
    ///
    /// - Parameters:
    ///   - isRefusal: the machine at the address says that nobody is there.
    ///   - mayPass: the relay may do better when it is asked again.
    public func dialFailed(
        _ id: ConnectionID, reason: String, isRefusal: Bool = false, mayPass: Bool = false, now: Instant
    ) {
        guard let connection = connections.removeValue(forKey: id), let dial = connection.dial else { return }
        let isRefusal =
            connection.closing == nil ? isRefusal : dials[dial]?.isRefused(connection.remoteAddress) ?? false
        attemptFailed(
            dial, connection.remoteAddress, connection.closing ?? reason, isRefusal: isRefusal,
            mayPass: mayPass && connection.closing == nil, now: now)
    }

    /// The names in an address were looked up, or could not be.
    public func resolved(_ id: RequestID, _ address: Multiaddr, _ result: Result<[Multiaddr], DialReason>, now: Instant)
    {
        guard let dial = resolutions.removeValue(forKey: id), dials[dial] != nil else { return }
        dials[dial]?.finishedResolving(now: now)
        switch result {
        case .success(let addresses):
            let wanted = addresses.filter {
                $0.peerID == nil || dials[dial]?.peer == nil || $0.peerID == dials[dial]?.peer
            }
            if wanted.isEmpty {
                dials[dial]?.failed(address, reason: "the name has no address of this peer", now: now)
            } else {
                let isDirect = dials[dial]?.requests.allSatisfy(\.isDirect) ?? true
                dials[dial]?.add(candidates(wanted, isDirect), local: local.peerID)
            }
        case .failure(let reason):
            dials[dial]?.failed(address, reason: reason.text, now: now)
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
            close(attempt.id, "no answer within \(attemptTimeout(of: attempt.address, in: id))")
        }
        while let address = dials[id]?.nextAttempt(now: now) { start(address, of: id, now: now) }
        if let dial = dials[id], dial.race.isLost { fail(id, .allFailed(dial.race.failures)) }
    }

    private func start(_ address: Multiaddr, of id: DialID, now: Instant) {
        if address.needsResolution {
            dials[id]?.resolvingInsteadOfRunning(address)
            let resolution = makeResolutionID()
            resolutions[resolution] = id
            return order(.resolve(resolution, address))
        }
        guard address.isCircuit || address.isDialableStream || address.isDialableQUIC else {
            dials[id]?.failed(address, reason: "no transport for this kind of address", now: now)
            return
        }
        guard connections.count < limits.maximumConnections else {
            dials[id]?.failed(address, reason: "the limit on connections is reached", now: now)
            return
        }
        let connection = makeConnectionID()
        connections[connection] = Connection(role: .dialer, remoteAddress: address, createdAt: now, dial: id)
        let expiresAt = now + attemptTimeout(of: address, in: id)
        dials[id]?.attempts.append((connection, address, expiresAt))
        let peer = dials[id]?.peer
        if let circuit = try? CircuitAddress(address), let peer {
            let relayAddresses = dials[id]?.addresses(of: circuit.relay) ?? []
            order(.dialThroughRelay(connection, circuit.relay, at: relayAddresses, to: peer))
        } else {
            order(.dial(connection, address, expecting: peer))
        }
    }

    private func attemptTimeout(of address: Multiaddr, in id: DialID) -> Duration {
        let isRefused = dials[id]?.isRefused(address) ?? false
        return isRefused
            ? min(dialSettings.attemptTimeout, DialSettings.refusedHostTimeout) : dialSettings.attemptTimeout
    }

    func attemptFailed(
        _ id: DialID, _ address: Multiaddr, _ reason: String, isRefusal: Bool = false, mayPass: Bool = false,
        now: Instant
    ) {
        guard dials[id] != nil else { return }
        dials[id]?.attempts.removeAll { $0.address == address }
        let repeatAt = mayPass && address.isCircuit ? now + dialSettings.repeatDelay(&random) : nil
        dials[id]?.failed(address, reason: reason, isRefusal: isRefusal, repeatAt: repeatAt, now: now)
        advance(id, now: now)
    }

    /// A connection to the peer of this dial is there: everybody who waits gets it, and the other attempts end. Through a
    /// relay, the direct ones go on: what is behind them is only slower, and better.
    func finish(_ id: DialID, with peer: PeerID, now: Instant) {
        guard let dial = dials[id], let connection = connection(to: peer) else { return }
        let isRelayed = path(of: connection) == .relayed
        for request in dial.requests where !(isRelayed && request.isDirect) {
            order(.completed(request.id, .success(ConnectedPeer(peer: peer, connection: connection))))
        }
        keptPeerConnected(dial, peer)
        guard isRelayed else {
            dials[id]?.requests = []
            return end(id)
        }
        dials[id]?.requests.removeAll { !$0.isDirect }
        dials[id]?.isBackground = true
        dials[id]?.finishedRelayed()
        let relayed = dial.attempts.filter(\.address.isCircuit)
        dials[id]?.attempts.removeAll(where: \.address.isCircuit)
        abandon(relayed.map(\.id))
        advance(id, now: now)
    }

    private func fail(_ id: DialID, _ error: DialError) { end(id, answeringWith: error) }

    private func end(_ id: DialID, answeringWith error: DialError = .cancelled) {
        guard let dial = dials.removeValue(forKey: id) else { return }
        if let peer = dial.peer { dialByPeer[peer] = nil }
        for request in dial.requests { order(.completed(request.id, .failure(error))) }
        abandon(dial.attempts.map(\.id))
    }

    private func abandon(_ attempts: [ConnectionID]) {
        for id in attempts {
            connections[id]?.dial = nil
            if connections[id]?.peer == nil { close(id, "another address was faster") }
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

    /// The machine is in another network: kept peers that could not be reached are tried again at once.
    public func networkChanged(now: Instant) {
        for index in kept.indices where kept[index].nextAttempt != nil {
            kept[index].nextAttempt = now
            kept[index].backoff = .seconds(1)
        }
    }

    private func keptPeerConnected(_ dial: Dial, _ peer: PeerID) {
        for index in kept.indices
        where kept[index].peer == peer
            || (kept[index].peer == nil && dial.requests.contains(where: { $0.id == Self.ownRequest }))
        {
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
