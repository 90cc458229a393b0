package import MartletCore

/// What becomes of a call whose connection is lost.
package enum RPCCutOffPolicy: Sendable {
    /// It waits for another connection, as long as the session does.
    case wait
    /// It ends at once if none of it was sent, since its caller knows of another peer.
    case endIfNotSent
    /// It ends at once, since its caller knows of another peer and the call may run there as well.
    case end
}

/// What a caller wants.
package struct RPCCallRequest {
    package var method: String
    package var kind: RPCCall.Kind
    /// The only message, or the first of a stream.
    package var message: RPCMessage?
    package var priority: RPCPriority
    package var metadata: RPCMetadata
    package var deadline: Instant?
    package var whenCutOff: RPCCutOffPolicy

    package init(
        method: String, kind: RPCCall.Kind, message: RPCMessage?, priority: RPCPriority = .activation,
        metadata: RPCMetadata = [:], deadline: Instant? = nil, whenCutOff: RPCCutOffPolicy = .wait
    ) {
        self.method = method
        self.kind = kind
        self.message = message
        self.priority = priority
        self.metadata = metadata
        self.deadline = deadline
        self.whenCutOff = whenCutOff
    }
}

/// What can be taken from a stream.
package enum RPCTaken {
    case message(RPCMessage)
    /// The other side is done.
    case end
    case failed(RPCError)
    /// Nothing yet: `readable` will tell.
    case nothing
}

extension RPCSession {
    // MARK: Beginning

    /// Begins a call. Nil when it is a one-way call that is on its way already: nothing more will be heard of it.
    ///
    /// - Throws: when the session or the call is beyond a limit; the outcome is `.notSent`.
    package func start(_ request: RPCCallRequest, token: Int, now: Instant) throws(RPCError) -> RPCCall? {
        if let failure { throw failure.with(.notSent) }
        guard !isDraining else { throw RPCError(.unavailable, "the peer takes no further calls", outcome: .notSent) }
        try check(request)
        guard request.whenCutOff == .wait || !isCutOff else {
            throw RPCError(.unavailable, "the connection to the peer is lost", outcome: .notSent)
        }
        let lane = lane(request.priority)
        use(lane)
        var header = RPCCallHeader(call: 0, method: 0, methodName: request.method)
        header.metadata = request.metadata
        if let deadline = request.deadline {
            guard deadline > now else {
                throw RPCError(.deadlineExceeded, "the deadline has passed", outcome: .notSent)
            }
            // Rounded up: the caller's own clock decides, the server's only spares work.
            header.milliseconds = Int((deadline - now).nanoseconds / 1_000_000) + 1
        }
        header.isOneWay = request.kind == .oneWay
        let isUnanswered = request.kind == .oneWay && (request.message?.byteCount ?? 0) <= RPCWire.fragmentLimit
        if !isUnanswered {
            guard activeCount < callLimit, let id = lane.makeID(limit: callLimit) else {
                throw RPCError(
                    .resourceExhausted, "the limit on calls per session (\(callLimit)) is reached", outcome: .notSent)
            }
            header.call = id
        }
        let call = RPCCall(lane: request.priority, kind: request.kind, id: header.call, token: token)
        startedCount += 1
        call.header = header
        call.phase = .queued
        call.deadline = request.deadline
        call.whenCutOff = request.whenCutOff
        if let deadline = request.deadline { note(deadline: deadline) }
        if request.kind != .stream {
            call.enqueue(request.message ?? RPCMessage())
            call.ending = .end
        } else if let message = request.message {
            call.enqueue(message)
        }
        if header.call > 0 {
            lane.add(call)
            activeCount += 1
        }
        // What can go now is encoded now, in the order of the calls; the rest waits its turn.
        if lane.ready.isEmpty, mayEncode(lane) { encodeFrame(of: call, lane) }
        if isUnanswered, call.phase == .over { return nil }
        lane.makeReady(call)
        call.wasReturned = true
        return call
    }

    private func check(_ request: RPCCallRequest) throws(RPCError) {
        let nameSize = request.method.utf8.count
        guard nameSize > 0, nameSize <= limits.methodNameSize else {
            throw RPCError(
                .invalidArgument, "a method name of \(nameSize) bytes; the limit is \(limits.methodNameSize)",
                outcome: .notSent)
        }
        if !request.metadata.isEmpty {
            guard request.metadata.encodedCount <= limits.metadataSize else {
                throw RPCError(
                    .resourceExhausted,
                    "metadata of \(request.metadata.encodedCount) bytes; the limit is \(limits.metadataSize)",
                    outcome: .notSent)
            }
        }
        if let message = request.message { try check(message) }
    }

    private func check(_ message: RPCMessage) throws(RPCError) {
        let limit = min(limits.messageSize, messageLimit)
        guard message.byteCount <= limit else {
            throw RPCError(
                .resourceExhausted, "a message of \(message.byteCount) bytes; the limit on message size is \(limit)",
                outcome: .notSent)
        }
        guard message.tensor?.isValid ?? true else {
            throw RPCError(.invalidArgument, "a tensor that cannot be described", outcome: .notSent)
        }
    }

    // MARK: Streams, on either side

    /// Queues a message. True when there is no room for another before `writable` tells.
    ///
    /// - Throws: why the call is over.
    package func send(_ message: RPCMessage, on call: RPCCall) throws(RPCError) -> Bool {
        try checkWritable(call)
        do throws(RPCError) { try check(message) } catch { throw error.with(.maybeExecuted) }
        call.enqueue(message)
        let lane = lane(call.lane)
        if lane.ready.isEmpty, !call.isReady, call.isSendable, mayEncode(lane) { encodeFrame(of: call, lane) }
        lane.makeReady(call)
        return hasNoRoom(call)
    }

    /// Has `writable` told when there is room. False, and nothing will be told, when there is some or the call is over.
    package func awaitRoom(_ call: RPCCall) -> Bool {
        guard !call.isOver, failure == nil, !isAnswered(call), hasNoRoom(call) else { return false }
        call.wantsRoom = true
        return true
    }

    private func hasNoRoom(_ call: RPCCall) -> Bool { call.queuedByteCount > limits.queuedBytesPerCall }

    /// Why nothing more can be sent on a call, if so.
    package func checkWritable(_ call: RPCCall) throws(RPCError) {
        if case .failure(let error)? = call.outcome { throw error }
        if let failure { throw failure.with(call.isCaller ? .maybeExecuted : .executed) }
        guard !call.isOver, !isAnswered(call) else {
            throw RPCError(.cancelled, "the call is over", outcome: .executed)
        }
        guard !call.ending.isSet, !call.isClosing, !call.hasFinished else {
            throw RPCError(.failedPrecondition, "the sender has finished", outcome: .maybeExecuted)
        }
    }

    /// Why a call failed, when it did.
    package func failure(of call: RPCCall) -> RPCError? {
        if case .failure(let error)? = call.outcome { return error }
        guard let failure, !call.isRemoteEnded else { return nil }
        return failure.with(call.isCaller ? .maybeExecuted : .executed)
    }

    /// The server has answered while the caller still sends: what it sends has no reader any more.
    private func isAnswered(_ call: RPCCall) -> Bool { call.isCaller && call.isRemoteEnded }

    /// The caller sends nothing more.
    package func finish(_ call: RPCCall) {
        guard call.isCaller, !call.isOver, !call.ending.isSet, !call.hasFinished else { return }
        call.ending = .end
        lane(call.lane).makeReady(call)
    }

    /// The next message; `nothing` asks for `readable` to be told.
    package func take(from call: RPCCall, now: Instant) -> RPCTaken {
        if let message = call.takeDelivered() {
            taken(message, from: call, now: now)
            return .message(message)
        }
        switch call.outcome {
        case .success: return .end
        case .failure(let error): return .failed(error)
        case nil: break
        }
        if let failure { return .failed(failure.with(call.isCaller ? outcome(of: call) : .executed)) }
        if call.isOver { return .failed(RPCError(.cancelled, "the call is over", outcome: .maybeExecuted)) }
        call.wantsMessage = true
        return .nothing
    }

    /// Nobody waits at the call any more.
    package func stopAwaiting(_ call: RPCCall, message: Bool = false, room: Bool = false) {
        if message { call.wantsMessage = false }
        if room { call.wantsRoom = false }
    }

    // MARK: Ending

    /// The caller gives the call up: it ends here at once, and the server is told.
    package func cancel(_ call: RPCCall) {
        abandon(call, RPCError(.cancelled, "the call was cancelled"))
    }

    /// The owner takes nothing more from the call, and gives it up unless it is over.
    package func discard(_ call: RPCCall) {
        cancel(call)
        call.dropDelivered()
        release(call)
    }

    func abandon(_ call: RPCCall, _ error: RPCError) {
        guard call.isCaller, !call.isOver else { return }
        let wasQueued = call.header != nil
        // What is encoded will reach the server, and may run before the cancellation does.
        let error = error.with(wasQueued ? .notSent : .maybeExecuted)
        call.dropDelivered()
        release(call)
        concludeCaller(call, .failure(error))
        guard !wasQueued, call.id > 0 else { return forget(call) }
        call.phase = .abandoned
        call.mustCancel = true
        lane(call.lane).makeUrgent(call)
    }

    /// Tells the owner how the call ended.
    func concludeCaller(_ call: RPCCall, _ result: Result<RPCMessage, RPCError>) {
        call.dropQueue()
        call.header = nil
        call.ending = .none
        call.ignoresInput = true
        switch call.kind {
        case .unary, .oneWay:
            call.phase = .over
            release(call)
            events.append(.finished(call, result))
        case .stream, .served:
            call.phase = .over
            call.outcome = call.outcome ?? result.map { _ in () }
            closeWindow(of: call)
            tellWaiters(call)
        }
    }

    func tellWaiters(_ call: RPCCall) {
        if call.wantsMessage {
            call.wantsMessage = false
            events.append(.readable(call))
        }
        if call.wantsRoom {
            call.wantsRoom = false
            events.append(.writable(call))
        }
    }

    /// The call's number is free again.
    func forget(_ call: RPCCall) {
        call.phase = .over
        guard call.id > 0 else { return }
        let lane = lane(call.lane)
        guard lane.call(call.id) === call else { return }
        lane.remove(call)
        activeCount -= 1
    }
}
