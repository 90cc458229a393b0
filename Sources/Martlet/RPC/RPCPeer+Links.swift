import MartletCore
import MartletIdentity
import MartletRPC
import MartletRuntime
import MartletSwarm

/// The streams of a session's lanes: how they come, go, and move from one connection to another.
extension RPCPeer {
    /// How many links in a row may end soon and bring nothing.
    private static let vainStreamLimit = 3
    private static let vainConnectionLimit = 10
    /// A link that lasted so long was not in vain.
    private static let usefulLink = Duration.seconds(1)
    /// How long to wait between attempts to reach a peer that a session waits for.
    private static let firstPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(2)

    // MARK: Links, on their loops

    /// A stream came in for a lane of this session. False when its hello cannot be.
    func accept(_ link: RPCLink, _ hello: RPCHello) -> Bool {
        let (isAccepted, old) = withLock { () -> (Bool, RPCLink?) in
            guard !isStopped, session.acceptLink(hello) else { return (false, nil) }
            let old = links[Int(hello.lane.rawValue)]
            setLink(link, of: hello.lane)
            return (true, old)
        }
        old?.close()
        perform { _ in }
        return isAccepted
    }

    func received(_ bytes: Bytes, on link: RPCLink, _ effects: inout Effects) {
        let now = link.loop.now
        perform(&effects, running: link) { session in
            guard links[Int(link.lane.rawValue)] === link else { return }
            let before = session.receivedCount(on: link.lane)
            session.receive(bytes, on: link.lane, now: now)
            if vainLinks > 0, session.receivedCount(on: link.lane) > before { vainLinks = 0 }
        }
    }

    /// The link can send.
    func flush(_ link: RPCLink, _ effects: inout Effects) {
        perform(&effects, running: link) { _ in }
    }

    func lost(_ link: RPCLink, _ reason: RPCLinkEnd) {
        let now = link.loop.now
        perform { session in
            let index = Int(link.lane.rawValue)
            guard links[index] === link else { return }
            setLink(nil, of: link.lane)
            session.linkLost(link.lane, now: now)
            guard role == .caller else { return }
            vainLinks = link.heardAt.map { now - $0 >= RPCPeer.usefulLink } ?? false ? 0 : vainLinks + 1
            switch reason {
            case .notSpoken:
                session.fail(RPCError(.unimplemented, "the peer does not speak \(NodeRPC.protocolID)"))
            case .violation(let what):
                session.fail(RPCError(.internal, "the stream failed: \(what)"))
            case .ended:
                if vainLinks > RPCPeer.vainStreamLimit {
                    session.fail(RPCError(.unavailable, "the peer closes the streams of its calls"))
                }
            case .connectionLost:
                if vainLinks > RPCPeer.vainConnectionLimit {
                    session.fail(RPCError(.unavailable, "connections to the peer are lost as soon as they are made"))
                }
            }
            // With nothing under way there is nothing to go on with: the next call begins a session of its own.
            if session.failure == nil, session.isIdle, links.allSatisfy({ $0 == nil }) {
                session.fail(RPCError(.unavailable, "the connection was lost"))
            }
        }
    }

    // MARK: Making links

    /// Gives every lane that needs one a stream, on the connection that there is or on one that is made.
    func makeLinks() async {
        let session = withLock { self.session }
        var pause = Self.firstPause
        while true {
            let change = withLock { pathChangeCount }
            do {
                let connection = try await rpc.connection(to: peer)
                if await attach(to: connection, session, change) { return }
                // A connection that is just being lost: in a moment the swarm knows.
                try? await Task.sleep(for: .milliseconds(10))
            } catch {
                guard mayTryAgain(after: error, session) else { return }
                // The session's own window ends this.
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, Self.longestPause)
            }
        }
    }

    /// Opens the streams. False when the connection takes none, or is not the one to use any more.
    private func attach(to connection: ConnectionDriver, _ session: RPCSession, _ change: UInt64) async -> Bool {
        await withUnsafeContinuation { continuation in
            let isAccepted = connection.loop.execute { [self] in
                continuation.resume(returning: attachNow(to: connection, session, change))
            }
            if !isAccepted {
                continuation.resume(returning: endLinking(RPCError(.unavailable, "the node was stopped")))
            }
        }
    }

    private func attachNow(to connection: ConnectionDriver, _ expected: RPCSession, _ change: UInt64) -> Bool {
        while true {
            var isCurrent = true
            let link: RPCLink? = withLock {
                guard session === expected, !isStopped,
                    let lane = RPCPriority.allCases.first(where: { session.needsLink($0) })
                else {
                    isLinking = false
                    return nil
                }
                isCurrent = pathChangeCount == change
                return isCurrent ? beginLink(lane, on: connection) : nil
            }
            guard isCurrent else { return false }
            guard let link else { break }
            guard open(link, on: connection, expected) else { return false }
        }
        // Something may have come between.
        perform { _ in
            if idleCheckAt == nil { idleCheckAt = connection.loop.now + rpc.limits.idleSessionLifetime }
        }
        rpc.home.schedule(self)
        return true
    }

    /// Under the lock: a lane's next link is one on `connection`.
    private func beginLink(_ lane: RPCPriority, on connection: ConnectionDriver) -> RPCLink {
        let link = RPCLink(connection: connection, lane: lane, peer: self, workers: rpc.workers(of: connection.loop))
        setLink(link, of: lane)
        session.openLink(lane)
        return link
    }

    /// Gives a link its stream. False when the connection takes none: then the lane is without link again.
    ///
    /// The hello goes along with the proposal although it may not be known yet that the peer speaks the protocol: that spares the
    /// first call a round trip, and calls wait for the welcome anyway. Who does not speak it may reset the stream for a hello that it
    /// cannot read, before it was heard to say no; so after a link in vain the answer is waited for.
    private func open(_ link: RPCLink, on connection: ConnectionDriver, _ expected: RPCSession) -> Bool {
        do {
            let isHopeful = withLock { vainLinks == 0 }
            link.attach(try connection.openStream([NodeRPC.protocolID], isHopeful: isHopeful, handler: link))
            return true
        } catch {
            let now = connection.loop.now
            perform { _ in
                guard links[Int(link.lane.rawValue)] === link else { return }
                setLink(nil, of: link.lane)
                expected.linkLost(link.lane, now: now)
            }
            return false
        }
    }

    /// Whether a session that was cut off waits for its peer to be there again.
    private func mayTryAgain(after error: any Error, _ expected: RPCSession) -> Bool {
        let waits = withLock { session === expected && expected.isGreeted && expected.failure == nil && !isStopped }
        guard waits, !Self.isFinal(error) else {
            _ = endLinking(RPCError(.unavailable, "\(error)"))
            return false
        }
        return true
    }

    /// Whether a failed dial says that the peer is not there any more, rather than out of reach for the moment.
    private static func isFinal(_ error: any Error) -> Bool {
        guard let error = error as? MartletError else { return true }
        return switch error.cause as? DialError {
        case .noAddresses, .timedOut, .limitReached, .cancelled: false
        case .allFailed(let failures): failures.allSatisfy(\.isRefusal)
        case .isSelf: true
        // A connection that was lost as soon as it was made.
        case nil: error.code != .notConnected
        }
    }

    private func endLinking(_ error: RPCError) -> Bool {
        perform { session in
            isLinking = false
            session.fail(error)
        }
        return true
    }

    // MARK: Moving

    /// Another connection is the one to use from now on. Told on the home loop, in the order of the changes.
    func pathChanged(to connection: ConnectionDriver) {
        let change: UInt64? = withLock {
            guard role == .caller, !isStopped else { return nil }
            pathChangeCount &+= 1
            return links.contains { $0 != nil } ? pathChangeCount : nil
        }
        guard let change else { return }
        connection.loop.execute { [self] in move(to: connection, change) }
    }

    /// Gives every lane a new stream on `connection` and ends the one it had. What was under way on that comes again.
    private func move(to connection: ConnectionDriver, _ change: UInt64) {
        for lane in RPCPriority.allCases {
            let began: (new: RPCLink, old: RPCLink, session: RPCSession)? = withLock {
                guard pathChangeCount == change, !isStopped, session.failure == nil,
                    let old = links[Int(lane.rawValue)], old.connection?.id != connection.id
                else { return nil }
                return (beginLink(lane, on: connection), old, session)
            }
            guard let began else { continue }
            // Where this fails the connection is being lost, and the lane gets its link as after any loss.
            _ = open(began.new, on: connection, began.session)
            began.old.close()
        }
        perform { _ in }
    }

    // MARK: The end

    /// Under the lock: the session is over, its calls have been told.
    func sessionLost(_ effects: inout Effects) {
        for lane in RPCPriority.allCases {
            guard let link = links[Int(lane.rawValue)] else { continue }
            setLink(nil, of: lane)
            effects.actions.append(.close(link))
        }
        // Whatever the timer was set for is over.
        effects.setsClock = true
        isLinking = false
        vainLinks = 0
        idleCheckAt = nil
        startedBefore = 0
        // Whoever calls this peer next begins anew; those who have this at hand already can go on with it.
        effects.actions.append(.forget(self))
        guard role == .caller, !isStopped else { return }
        var random = RandomSource.system
        session = RPCSession(role: .caller, id: RPCSessionID(random: &random), limits: rpc.limits)
        armedFor = nil
    }

    /// Ends the session for good.
    func stop() {
        perform { session in
            isStopped = true
            session.fail(RPCError(.unavailable, "the node was stopped"))
        }
    }

    /// Tells the caller that this node takes no further calls.
    func drain() { perform { $0.drain() } }

    /// Whether it can go to make room for another session of its peer.
    var isCutOff: Bool { withLock { links.allSatisfy { $0 == nil } } }
    /// Streams that its lanes have now.
    var linkCount: Int { withLock { links.reduce(0) { $0 + ($1 == nil ? 0 : 1) } } }
    var hasCalls: Bool { withLock { session.activeCount > 0 } }
}
