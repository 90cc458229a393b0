import DequeModule
package import MartletCore

/// What a session tells its owner.
package enum RPCSessionEvent: Sendable {
    /// A unary call has its answer. A one-way call ended before it was handed over.
    case finished(RPCCall, Result<RPCMessage, RPCError>)
    /// A one-way call was handed to the connection.
    case handedOver(RPCCall)
    /// Something may be taken from the call; told once for every time that nothing was there.
    case readable(RPCCall)
    /// The call has room again, or is over; told once for every time that it was full.
    case writable(RPCCall)
    /// A peer calls: the owner answers with `begin` or `refuse`.
    case incoming(RPCCall)
    /// The request that `begin` waited for is there.
    case request(RPCCall)
    /// The call that is served is over: its handler shall stop.
    case cancelled(RPCCall)
    /// The session is over, and every call has been told.
    case lost(RPCError)
}

/// One peer's calls to another: up to three lanes, the calls on them, and what holds it all over the loss of connections.
///
/// Sans-I/O. The owner gives it streams (`openLink`, `acceptLink`, `linkLost`), their bytes and the time, drains
/// `nextEvent()` after every call and hands `nextOutput` of every lane to its stream. One side only calls, the other only
/// serves; nodes that call each other have two sessions.
///
/// Sendable in name only: one thread at a time uses it, which its owner's lock sees to.
///
/// Specification: docs/protocols/rpc.md.
package final class RPCSession: @unchecked Sendable {
    package enum Role: Sendable { case caller, server }

    /// When an acknowledgement goes by itself: after so many frames, bytes or so long.
    static let acknowledgeFrames: Int64 = 64
    static let acknowledgeBytes = 256 << 10
    static let acknowledgeDelay = Duration.milliseconds(50)
    /// With other traffic it rides from so many frames on.
    static let acknowledgeRiding: Int64 = 8
    /// What is encoded ahead of the stream at most, so that cancellations and small calls overtake.
    static let encodeAhead = 128 << 10

    package let role: Role
    package let id: RPCSessionID
    package let limits: RPCLimits
    let lanes: [RPCLane]
    @exclusivity(unchecked) var events = Deque<RPCSessionEvent>()

    /// The other side has greeted: it knows the session.
    @exclusivity(unchecked) package internal(set) var isGreeted = false
    /// The server takes no further calls.
    @exclusivity(unchecked) package internal(set) var isDraining = false
    /// Why the session is over; nil while it goes on.
    @exclusivity(unchecked) package internal(set) var failure: RPCError?
    @exclusivity(unchecked) var callLimit = RPCWire.initialCallLimit
    @exclusivity(unchecked) var messageLimit: Int
    /// Calls begun so far.
    @exclusivity(unchecked) package internal(set) var startedCount = 0
    /// Calls that are not over, or whose handler still runs.
    @exclusivity(unchecked) package internal(set) var activeCount = 0
    /// What has been received and not been taken, and what calls beyond their first window may still receive.
    @exclusivity(unchecked) package internal(set) var usage = 0
    /// The part of it that calls beyond their first window have.
    @exclusivity(unchecked) var granted = 0
    /// Calls that wait until the session can grant them more.
    @exclusivity(unchecked) var starved = Deque<RPCCall>()
    /// No call's deadline is earlier.
    @exclusivity(unchecked) var earliestDeadline: Instant?
    /// `deadline` may have become earlier. For the owner, who takes the flag down when it looks.
    @exclusivity(unchecked) package var deadlineChanged = true
    /// The lanes that were ever used, a bit for each, by its number: nothing comes of the others.
    @exclusivity(unchecked) package private(set) var usedLanes: UInt8 = 0

    package init(role: Role, id: RPCSessionID, limits: RPCLimits) {
        self.role = role
        self.id = id
        self.limits = limits
        messageLimit = limits.messageSize
        lanes = RPCPriority.allCases.map { RPCLane(priority: $0, limits: limits) }
    }

    /// The largest message that can be received: what a session cannot hold would wait for ever.
    var acceptedMessageSize: Int {
        min(limits.messageSize, limits.bufferedBytesPerSession - RPCWire.messageCharge)
    }

    func lane(_ priority: RPCPriority) -> RPCLane { lanes[Int(priority.rawValue)] }

    /// The lane is used from now on.
    func use(_ lane: RPCLane) { usedLanes |= 1 << lane.priority.rawValue }

    package func nextEvent() -> RPCSessionEvent? { events.popFirst() }

    // MARK: Streams

    /// The caller gives a lane a new stream, in place of the one that it may have: what came over that and was not
    /// acknowledged comes again. `nextOutput` begins with the hello.
    package func openLink(_ priority: RPCPriority) {
        let lane = lane(priority)
        guard failure == nil else { return }
        use(lane)
        unlink(lane)
        lane.link = .greeting
        lane.detachedAt = nil
        lane.linkCount += 1
        let hello = RPCHello(
            session: id, lane: priority, isResumed: isGreeted, receivedCount: lane.receivedCount, link: lane.linkCount)
        lane.greeting = hello.encoded
    }

    /// The server takes a stream that the caller opened for a lane. False when the stream is not to be used: the caller
    /// has opened another since, which came first, or the hello cannot be, and the session is over.
    package func acceptLink(_ hello: RPCHello) -> Bool {
        let lane = lane(hello.lane)
        guard failure == nil, hello.link > lane.linkCount else { return false }
        use(lane)
        lane.linkCount = hello.link
        unlink(lane)
        guard lane.log.rewind(to: hello.receivedCount) else {
            violated("a hello of \(hello.receivedCount) frames received")
            return false
        }
        isGreeted = true
        lane.link = .open
        lane.detachedAt = nil
        acknowledgedAll(lane)
        lane.greeting =
            RPCWelcome(
                status: .welcome, receivedCount: lane.receivedCount, callLimit: limits.callsPerSession,
                messageLimit: acceptedMessageSize
            ).encoded
        return true
    }

    /// A lane's stream is gone. The session goes on when the lane is given another in time.
    package func linkLost(_ priority: RPCPriority, now: Instant) {
        let lane = lane(priority)
        guard lane.link != .none else { return }
        unlink(lane)
        lane.detachedAt = now
        deadlineChanged = true
        endImpatientCalls(of: lane)
    }

    /// Whether a lane has lost its stream and has no other yet.
    var isCutOff: Bool { lanes.contains { $0.detachedAt != nil } }

    /// Ends the calls that do not wait for another connection.
    private func endImpatientCalls(of lane: RPCLane) {
        guard role == .caller else { return }
        for case let call? in lane.calls where !call.isOver {
            let ends =
                switch call.whenCutOff {
                case .wait: false
                case .endIfNotSent: call.header != nil
                case .end: true
                }
            if ends { abandon(call, RPCError(.unavailable, "the connection to the peer was lost")) }
        }
    }

    private func unlink(_ lane: RPCLane) {
        lane.link = .none
        lane.greeting = nil
        lane.welcomeBytes = []
        // The part of a frame that has come will come again.
        lane.parser = RPCFrameParser(limits: limits)
        lane.acknowledgeAt = nil
    }

    /// Frames of a lane received so far, over all its streams.
    package func receivedCount(on priority: RPCPriority) -> Int64 { lane(priority).receivedCount }

    /// Whether a lane has a stream.
    package func isLinked(_ priority: RPCPriority) -> Bool { lane(priority).link != .none }

    /// Whether the caller should give the lane a stream: it has something to send, or was cut off.
    package func needsLink(_ priority: RPCPriority) -> Bool {
        let lane = lane(priority)
        guard failure == nil, lane.link == .none else { return false }
        return lane.isUsed || !lane.ready.isEmpty || !lane.log.isEmpty
    }

    /// Whether nothing would be lost with the session: no call is under way and everything sent is acknowledged.
    package var isIdle: Bool {
        activeCount == 0 && lanes.allSatisfy { $0.log.unacknowledgedCount == 0 && $0.ready.isEmpty }
    }

    // MARK: The end

    /// The peer broke the rules.
    func violated(_ what: String) {
        fail(RPCError(.internal, "the peer broke the RPC protocol: \(what)"))
    }

    /// Ends the session and every call in it; the outcome in `error` is replaced by each call's own.
    package func fail(_ error: RPCError) {
        guard failure == nil else { return }
        failure = error
        for lane in lanes {
            for call in lane.calls { if let call { lose(call, error) } }
            // One-way calls have no number, and wait in line only.
            for call in lane.ready where call.id == 0 { lose(call, error) }
            lane.removeAllCalls()
            lane.log = RPCSendLog()
            unlink(lane)
            lane.detachedAt = nil
        }
        starved = []
        events.append(.lost(error))
    }

    private func lose(_ call: RPCCall, _ error: RPCError) {
        guard !call.isOver else {
            call.phase = .over
            return
        }
        if call.isCaller {
            concludeCaller(call, .failure(error.with(outcome(of: call))))
        } else {
            concludeServer(call)
        }
    }

    /// What the caller knows of a call that got no answer, when the session is over.
    func outcome(of call: RPCCall) -> RPCError.Outcome {
        call.header != nil || lane(call.lane).log.handedOut <= call.frameNumber ? .notSent : .maybeExecuted
    }

    /// The server takes no further calls; those under way go on.
    package func drain() {
        guard role == .server, !isDraining, failure == nil else { return }
        isDraining = true
        for lane in lanes where lane.link == .open { lane.log.append(.goAway) }
    }

    // MARK: Time

    /// The earliest moment at which `handleTimeout` has work.
    package var deadline: Instant? {
        guard failure == nil else { return nil }
        var earliest = earliestDeadline
        func consider(_ instant: Instant?) {
            guard let instant else { return }
            earliest = earliest.map { min($0, instant) } ?? instant
        }
        for lane in lanes {
            consider(lane.acknowledgeAt)
            consider(lane.detachedAt.map { $0 + limits.resumeWindow })
        }
        return earliest
    }

    package func handleTimeout(now: Instant) {
        guard failure == nil else { return }
        for lane in lanes {
            if let detached = lane.detachedAt, now >= detached + limits.resumeWindow {
                return fail(RPCError(.unavailable, "the connection was lost and did not come back in time"))
            }
            if let due = lane.acknowledgeAt, now >= due { acknowledge(lane) }
        }
        expireCalls(now: now)
    }

    private func expireCalls(now: Instant) {
        guard let earliest = earliestDeadline, now >= earliest else { return }
        var next: Instant?
        for lane in lanes {
            // One-way calls have no number; few wait, and only while nothing can be sent.
            expireWaiting(lane, now: now)
            for case let call? in lane.calls {
                guard let deadline = call.deadline, !call.isOver else { continue }
                if now >= deadline {
                    expire(call)
                } else {
                    next = next.map { min($0, deadline) } ?? deadline
                }
            }
        }
        let waiting = lanes.lazy.flatMap(\.ready).filter { $0.id == 0 && !$0.isOver }.compactMap(\.deadline).min()
        earliestDeadline = [next, waiting].compactMap(\.self).min()
    }

    private func expireWaiting(_ lane: RPCLane, now: Instant) {
        for call in lane.ready where call.id == 0 && !call.isOver {
            if let deadline = call.deadline, now >= deadline { expire(call) }
        }
    }

    private func expire(_ call: RPCCall) {
        let error = RPCError(.deadlineExceeded, "the deadline has passed", outcome: .maybeExecuted)
        if call.isCaller { abandon(call, error) } else { stopServing(call, error) }
    }

    func note(deadline: Instant) {
        deadlineChanged = true
        earliestDeadline = earliestDeadline.map { min($0, deadline) } ?? deadline
    }
}
