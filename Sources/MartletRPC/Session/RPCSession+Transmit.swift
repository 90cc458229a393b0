import DequeModule
package import MartletCore

extension RPCSession {
    /// Whether `nextOutput` would give something.
    package func hasOutput(_ priority: RPCPriority) -> Bool {
        let lane = lane(priority)
        guard lane.link != .none else { return false }
        if lane.greeting != nil { return true }
        guard lane.link == .open else { return false }
        if !lane.log.isEmpty || mustAcknowledge(lane) { return true }
        return lane.maySend(limits) && (!lane.ready.isEmpty || !lane.urgent.isEmpty)
    }

    /// The next bytes for a lane's stream. Ask as long as the stream takes more, and not for longer: what is not asked
    /// for can still be overtaken.
    package func nextOutput(_ priority: RPCPriority) -> Bytes? {
        let lane = lane(priority)
        guard lane.link != .none else { return nil }
        if let greeting = lane.greeting.take() { return greeting }
        guard lane.link == .open else { return nil }
        if lane.log.isAtFrame { fill(lane) }
        return lane.log.takeChunk()
    }

    /// Encodes what may go now: first what grants or takes back, then data in turn.
    private func fill(_ lane: RPCLane) {
        while lane.maySend(limits), let call = lane.urgent.popFirst() {
            call.isUrgent = false
            // A call that is over has nothing to say; one that was given up has.
            if call.mustCancel, lane.call(call.id) === call {
                call.mustCancel = false
                lane.log.append(.cancel(call: call.id))
            } else if call.pendingCredit > 0, !call.isOver {
                lane.log.append(.credit(call: call.id, byteCount: call.pendingCredit))
                call.pendingCredit = 0
            }
        }
        while mayEncode(lane), let call = lane.ready.popFirst() {
            call.isReady = false
            guard call.isSendable else { continue }
            encodeFrame(of: call, lane)
            lane.makeReady(call)
        }
        if mustAcknowledge(lane) { acknowledge(lane) }
    }

    /// Without a stream nothing is encoded: what is not, can still be taken back without a trace.
    func mayEncode(_ lane: RPCLane) -> Bool {
        lane.link == .open && lane.log.pendingByteCount < Self.encodeAhead && lane.maySend(limits)
    }

    private func mustAcknowledge(_ lane: RPCLane) -> Bool {
        let count = lane.receivedCount - lane.acknowledgedCount
        return count >= Self.acknowledgeFrames || lane.unacknowledgedBytes >= Self.acknowledgeBytes
            || (count >= Self.acknowledgeRiding && !lane.log.isEmpty)
    }

    func acknowledge(_ lane: RPCLane) {
        guard lane.receivedCount > lane.acknowledgedCount, lane.link == .open else {
            lane.acknowledgeAt = nil
            return
        }
        lane.log.append(.acknowledge(lane.receivedCount))
        acknowledgedAll(lane)
    }

    func acknowledgedAll(_ lane: RPCLane) {
        lane.acknowledgedCount = lane.receivedCount
        lane.unacknowledgedBytes = 0
        lane.acknowledgeAt = nil
    }

    // MARK: Frames

    /// Encodes the next frame of a call that is sendable.
    func encodeFrame(of call: RPCCall, _ lane: RPCLane) {
        if let header = call.header.take() { return encodeFirst(header, of: call, lane) }
        guard let message = call.currentMessage else { return encodeEnding(of: call, lane) }
        if call.offset > 0 {
            let count = min(message.byteCount - call.offset, RPCWire.fragmentLimit, call.credit)
            lane.log.append(.more(call: call.id, byteCount: count), message, payload: call.offset..<call.offset + count)
            return advance(call, by: count, of: message, lane)
        }
        let header = firstFragment(of: message, call)
        let isLast = call.isLastMessage
        if case .result = call.ending, isLast {
            lane.log.append(.result(call: call.id, header), message, payload: 0..<header.fragment)
            call.isClosing = true
            call.ending = .none
        } else {
            var ends = false
            if case .end = call.ending, isLast {
                ends = true
                call.hasFinished = true
                call.ending = .none
            }
            lane.log.append(
                .message(call: call.id, header, ends: ends), message, payload: 0..<header.fragment)
        }
        call.credit -= RPCWire.messageCharge
        advance(call, by: header.fragment, of: message, lane)
    }

    private func encodeFirst(_ header: consuming RPCCallHeader, of call: RPCCall, _ lane: RPCLane) {
        let (index, isNew) = lane.index(of: header.methodName ?? "")
        header.method = index
        if !isNew { header.methodName = nil }
        call.phase = .open
        call.frameNumber = lane.log.frameCount
        let isLast = call.isLastMessage
        if case .end = call.ending, isLast {
            header.ends = true
            call.hasFinished = true
            call.ending = .none
        }
        guard let message = call.currentMessage else {
            return lane.log.append(.call(header))
        }
        let first = firstFragment(of: message, call)
        header.message = first
        lane.log.append(.call(header), message, payload: 0..<first.fragment)
        call.credit -= RPCWire.messageCharge
        advance(call, by: first.fragment, of: message, lane)
    }

    private func firstFragment(of message: RPCMessage, _ call: RPCCall) -> RPCMessageHeader {
        let count = min(message.byteCount, RPCWire.fragmentLimit, call.credit - RPCWire.messageCharge)
        return RPCMessageHeader(total: message.byteCount, fragment: count, tensor: message.tensor)
    }

    /// `count` bytes more of the current message are encoded.
    private func advance(_ call: RPCCall, by count: Int, of message: RPCMessage, _ lane: RPCLane) {
        call.credit -= count
        call.offset += count
        guard call.offset == message.byteCount else { return }
        call.finishCurrent()
        if call.isClosing { return concludeServer(call) }
        if call.kind == .oneWay { return leave(call) }
        if call.wantsRoom, call.queuedByteCount <= limits.queuedBytesPerCall / 2 {
            call.wantsRoom = false
            events.append(.writable(call))
        }
    }

    private func encodeEnding(of call: RPCCall, _ lane: RPCLane) {
        let ending = call.ending
        call.ending = .none
        switch ending {
        case .none: break
        case .end:
            call.hasFinished = true
            lane.log.append(.end(call: call.id))
        case .result:
            lane.log.append(.result(call: call.id, nil))
            concludeServer(call)
        case .failure(let error):
            lane.log.append(.failure(call: call.id, error))
            concludeServer(call)
        }
    }

    // MARK: One-way calls

    /// A one-way call is all encoded, with a stream at hand: as good as gone.
    private func leave(_ call: RPCCall) {
        call.phase = call.id == 0 ? .over : .abandoned
        if call.wasReturned { events.append(.handedOver(call)) }
    }
}
