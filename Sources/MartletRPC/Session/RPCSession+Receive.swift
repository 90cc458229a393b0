package import MartletCore

extension RPCSession {
    /// Takes bytes of a lane's stream. What breaks the protocol ends the session; `failure` says so.
    package func receive(_ bytes: Bytes, on priority: RPCPriority, now: Instant) {
        let lane = lane(priority)
        guard failure == nil, !bytes.isEmpty else { return }
        switch lane.link {
        case .none: return
        case .greeting:
            guard let rest = receiveWelcome(bytes, lane) else { return }
            receiveFrames(rest, lane, now: now)
        case .open: receiveFrames(bytes, lane, now: now)
        }
    }

    /// What follows the welcome; nil while it is not all there, or when it is none.
    private func receiveWelcome(_ bytes: Bytes, _ lane: RPCLane) -> Bytes? {
        let before = lane.welcomeBytes.count
        // A welcome takes less than 32 bytes.
        bytes.prefix(32).withUnsafeBytes { lane.welcomeBytes.append(contentsOf: $0) }
        do {
            let received = lane.welcomeBytes
            guard let (welcome, size) = try RPCWelcome.decode(received.span.bytes) else {
                if lane.welcomeBytes.count > 64 { violated("a welcome without end") }
                return nil
            }
            lane.welcomeBytes = []
            guard greeted(welcome, lane) else { return nil }
            return bytes.dropFirst(max(0, size - before))
        } catch {
            violated("\(error)")
            return nil
        }
    }

    private func greeted(_ welcome: RPCWelcome, _ lane: RPCLane) -> Bool {
        switch welcome.status {
        case .welcome: break
        case .unknownSession: fail(RPCError(.unavailable, "the peer has ended the session"))
        case .tooManySessions: fail(RPCError(.resourceExhausted, "the peer's limit on sessions is reached"))
        case .stopping: fail(RPCError(.unavailable, "the peer takes no further calls"))
        }
        guard failure == nil else { return false }
        guard lane.log.rewind(to: welcome.receivedCount) else {
            violated("a welcome of \(welcome.receivedCount) frames received")
            return false
        }
        isGreeted = true
        lane.link = .open
        // The hello said how many frames were received.
        acknowledgedAll(lane)
        callLimit = max(1, min(welcome.callLimit, limits.callsPerSession, RPCWire.callLimit))
        messageLimit = welcome.messageLimit
        return true
    }

    private func receiveFrames(_ bytes: Bytes, _ lane: RPCLane, now: Instant) {
        guard !bytes.isEmpty else { return }
        lane.parser.append(bytes)
        do {
            while failure == nil, let (frame, payload, byteCount) = try lane.parser.next() {
                if frame.isCounted {
                    if lane.acknowledgeAt == nil {
                        lane.acknowledgeAt = now + Self.acknowledgeDelay
                        deadlineChanged = true
                    }
                    lane.receivedCount += 1
                    lane.unacknowledgedBytes += byteCount
                }
                if case .acknowledge(let count) = frame {
                    guard lane.log.acknowledge(count) else {
                        return violated("an acknowledgement of \(count) frames")
                    }
                } else if role == .caller {
                    receivedByCaller(frame, payload, lane, now: now)
                } else {
                    receivedByServer(frame, payload, lane, now: now)
                }
            }
        } catch {
            violated("\(error)")
        }
    }

    // MARK: The caller receives

    private func receivedByCaller(_ frame: RPCFrame, _ payload: RPCMessage, _ lane: RPCLane, now: Instant) {
        switch frame {
        case .message(let id, let header, let ends):
            guard !ends, let call = lane.call(id) else { return violated("a message for call \(id)") }
            receiveMessage(call, header, payload, now: now)
        case .more(let id, let count):
            guard let call = lane.call(id) else { return violated("more for call \(id)") }
            receiveMore(call, count, payload, now: now)
        case .result(let id, let header):
            guard let call = lane.call(id) else { return violated("a result of call \(id)") }
            receiveResult(call, header, payload, now: now)
        case .failure(let id, let error):
            guard let call = lane.call(id) else { return violated("an error of call \(id)") }
            forgetAfter(call) { concludeCaller(call, .failure(error)) }
        case .credit(let id, let count):
            guard let call = lane.call(id) else { return violated("credit for call \(id)") }
            granted(call, count, lane)
        case .goAway: isDraining = true
        case .call, .end, .cancel, .acknowledge: violated("a frame that only callers send")
        }
    }

    private func receiveResult(_ call: RPCCall, _ header: RPCMessageHeader?, _ payload: RPCMessage, now: Instant) {
        guard let header else {
            guard call.ignoresInput || call.assembly == nil else { return violated("a result amid a message") }
            return remoteEnded(call)
        }
        if call.kind == .unary, !call.ignoresInput, header.fragment == header.total, call.assembly == nil,
            !call.hasDelivered, charge(call, header.fragment + RPCWire.messageCharge)
        {
            // What most calls come to.
            var message = payload
            message.tensor = header.tensor
            return forgetAfter(call) { concludeCaller(call, .success(message)) }
        }
        guard failure == nil else { return }
        call.endsAfterMessage = true
        if call.ignoresInput {
            // The rest of the message still comes before the number is free.
            call.missing = header.total - header.fragment
            if call.missing == 0 { forget(call) }
            return
        }
        receiveMessage(call, header, payload, now: now)
    }

    /// The server has answered for the last time.
    private func remoteEnded(_ call: RPCCall) {
        forgetAfter(call) {
            guard !call.isOver else { return }
            guard call.kind == .unary || call.kind == .oneWay else {
                return concludeCaller(call, .success(RPCMessage()))
            }
            let message = call.takeDelivered() ?? RPCMessage()
            if call.hasDelivered {
                let error = RPCError(.unimplemented, "the method answers with several messages; open a stream to it")
                return concludeCaller(call, .failure(error))
            }
            concludeCaller(call, .success(message))
        }
    }

    private func forgetAfter(_ call: RPCCall, _ body: () -> Void) {
        if !call.isOver { body() }
        forget(call)
    }

    // MARK: The server receives

    private func receivedByServer(_ frame: RPCFrame, _ payload: RPCMessage, _ lane: RPCLane, now: Instant) {
        // Frames for a call that the server has answered already may still be under way: they are passed over.
        switch frame {
        case .call(let header): receiveCall(header, payload, lane, now: now)
        case .message(let id, let header, let ends):
            guard let call = lane.call(id), !call.ignoresInput else { return }
            guard !call.isRemoteEnded, !call.endsAfterMessage else { return violated("a message after the last") }
            call.endsAfterMessage = ends
            receiveMessage(call, header, payload, now: now)
        case .more(let id, let count):
            guard let call = lane.call(id), !call.ignoresInput else { return }
            receiveMore(call, count, payload, now: now)
        case .end(let id):
            guard let call = lane.call(id), !call.ignoresInput else { return }
            guard call.assembly == nil, !call.isRemoteEnded else { return violated("an end amid a message") }
            callerFinished(call)
        case .cancel(let id):
            guard let call = lane.call(id) else { return }
            stopServing(call, RPCError(.cancelled, "the caller gave up"))
        case .credit(let id, let count):
            guard let call = lane.call(id) else { return }
            granted(call, count, lane)
        case .result, .failure, .goAway, .acknowledge: violated("a frame that only servers send")
        }
    }

    private func receiveCall(_ header: RPCCallHeader, _ payload: RPCMessage, _ lane: RPCLane, now: Instant) {
        if let name = header.methodName {
            guard header.method <= lane.methods.count else { return violated("method \(header.method) before others") }
            if header.method == lane.methods.count {
                lane.methods.append(name)
            } else {
                // Only the last number is for names that come and go.
                guard header.method == RPCWire.methodLimit - 1 else {
                    return violated("method \(header.method) is named twice")
                }
                lane.methods[header.method] = name
            }
        }
        guard header.method < lane.methods.count else { return violated("method \(header.method) without a name") }
        guard header.call <= max(limits.callsPerSession, RPCWire.initialCallLimit), lane.call(header.call) == nil else {
            return violated("call \(header.call) is in use, or beyond the limit")
        }
        let call = RPCCall(lane: lane.priority, kind: .served, id: header.call, token: 0)
        call.method = lane.methods[header.method]
        call.methodNumber = header.method < RPCWire.methodLimit - 1 ? header.method : nil
        call.metadata = header.metadata
        call.isOneWay = header.isOneWay
        if let milliseconds = header.milliseconds {
            let deadline = now + .milliseconds(milliseconds)
            call.deadline = deadline
            note(deadline: deadline)
        }
        if call.id > 0 { lane.add(call) }
        activeCount += 1
        if isDraining {
            return refuse(call, RPCError(.unavailable, "this node takes no further calls"))
        }
        guard activeCount <= limits.callsPerSession else {
            return refuse(
                call,
                RPCError(
                    .resourceExhausted, "the limit on calls per session (\(limits.callsPerSession)) is reached"))
        }
        if let message = header.message {
            call.endsAfterMessage = header.ends
            receiveMessage(call, message, payload, now: now)
        } else if header.ends {
            callerFinished(call)
        }
        if failure == nil, !call.isOver, !call.ignoresInput { events.append(.incoming(call)) }
    }

    private func callerFinished(_ call: RPCCall) {
        call.outcome = .success(())
        requestIsThere(call)
    }

    /// The handler can start, or go on.
    private func requestIsThere(_ call: RPCCall) {
        if call.awaitsRequest {
            call.awaitsRequest = false
            call.wasStarted = true
            events.append(.request(call))
        } else if call.wantsMessage {
            call.wantsMessage = false
            events.append(.readable(call))
        }
    }

    // MARK: Messages

    private func receiveMessage(_ call: RPCCall, _ header: RPCMessageHeader, _ payload: RPCMessage, now: Instant) {
        guard !call.ignoresInput else { return }
        guard call.assembly == nil else { return violated("a message within a message") }
        guard header.total <= acceptedMessageSize else {
            return overflow(
                call, "a message of \(header.total) bytes; the limit on message size is \(acceptedMessageSize)")
        }
        guard charge(call, header.fragment + RPCWire.messageCharge) else { return }
        var message = payload
        message.tensor = header.tensor
        call.missing = header.total - header.fragment
        guard call.missing > 0 else { return received(message, call) }
        call.assembly = message
        // The caller may go on only as far as its window: a message that is larger is given room of its own.
        if call.outstanding < call.missing { grant(call, call.missing - call.outstanding) }
    }

    private func receiveMore(_ call: RPCCall, _ count: Int, _ payload: RPCMessage, now: Instant) {
        if call.ignoresInput {
            guard call.isCaller, call.endsAfterMessage else { return }
            call.missing -= count
            if call.missing <= 0 { forget(call) }
            return
        }
        guard var message = call.assembly, count <= call.missing else { return violated("more than was announced") }
        guard charge(call, count) else { return }
        // Taken out while it is added to, so that its pieces are not copied.
        call.assembly = nil
        message.append(contentsOf: payload)
        call.missing -= count
        if call.missing > 0 { call.assembly = message } else { received(message, call) }
    }

    private func received(_ message: RPCMessage, _ call: RPCCall) {
        call.deliver(message)
        guard call.isCaller else {
            if call.takesOneMessage, call.deliveredCount > 1 { return refuseFurtherMessages(call) }
            if call.endsAfterMessage { call.outcome = .success(()) }
            return requestIsThere(call)
        }
        if call.endsAfterMessage { return remoteEnded(call) }
        if call.wantsMessage {
            call.wantsMessage = false
            events.append(.readable(call))
        }
    }

    /// More was received than this side takes: the call fails, and nothing else does.
    func overflow(_ call: RPCCall, _ what: String) {
        let error = RPCError(.resourceExhausted, what, outcome: .maybeExecuted)
        if call.isCaller { abandon(call, error) } else { stopServing(call, error) }
    }
}
