import MartletCore

extension RPCSession {
    // MARK: What the owner answers

    /// Takes on a call that came in.
    ///
    /// - Parameter awaitingRequest: whether the handler is to be started with its first message.
    /// - Returns: whether it can start now; otherwise `request` will tell.
    package func begin(_ call: RPCCall, awaitingRequest: Bool) -> Bool {
        guard !call.isOver, !call.isRunning, !call.ending.isSet else { return false }
        if awaitingRequest {
            call.takesOneMessage = true
            guard call.deliveredCount <= 1 else {
                refuseFurtherMessages(call)
                return false
            }
        }
        call.isRunning = true
        guard awaitingRequest, !call.hasDelivered, !call.isRemoteEnded else {
            call.wasStarted = true
            return true
        }
        call.awaitsRequest = true
        return false
    }

    /// A caller of a method that takes one message has sent several: it means another method, and is told so.
    func refuseFurtherMessages(_ call: RPCCall) {
        stopServing(call, RPCError(.invalidArgument, "\(call.method) takes one message"))
    }

    /// The message that the handler of one message is started with; empty when the caller sent none. Nil when the call is
    /// over before its handler was started: then it must not be.
    package func takeRequest(of call: RPCCall) -> RPCMessage? {
        guard failure == nil, !call.isOver, !call.ending.isSet else {
            handlerFinished(call, .success(nil))
            return nil
        }
        // It counts as received until the handler is done with it: a handler that hangs holds it.
        return call.takeDelivered() ?? RPCMessage()
    }

    /// Does not take on a call that came in.
    package func refuse(_ call: RPCCall, _ error: RPCError) {
        end(call, error.with(.notSent), droppingQueue: true)
    }

    /// The handler is done: its last message, if any, and the end go to the caller.
    package func handlerFinished(_ call: RPCCall, _ result: Result<RPCMessage?, RPCError>) {
        guard call.isRunning else { return }
        call.isRunning = false
        release(call)
        guard !call.isOver, failure == nil else {
            // Its caller is gone, and the number with it; only its place among the active ones was still taken.
            if failure == nil { activeCount -= 1 }
            return
        }
        call.ignoresInput = true
        guard !call.isClosing, !call.ending.isSet else { return }
        if call.id == 0 {
            call.phase = .over
            activeCount -= 1
            return
        }
        switch result {
        case .success(let message):
            if let message, !call.isOneWay {
                guard message.byteCount <= limits.messageSize, message.tensor?.isValid ?? true else {
                    let error = RPCError(
                        .resourceExhausted,
                        "an answer of \(message.byteCount) bytes; the limit on message size is \(limits.messageSize)")
                    return end(call, error, droppingQueue: false)
                }
                call.enqueue(message)
            }
            call.ending = .result
            submit(call)
        case .failure(let error):
            end(call, error, droppingQueue: false)
        }
    }

    // MARK: What ends a call

    /// The caller gave up or its time is over: the handler shall stop, and the caller is answered at once.
    func stopServing(_ call: RPCCall, _ error: RPCError) {
        guard !call.isOver else { return }
        let outcome: RPCError.Outcome =
            call.wasStarted ? (call.isRunning ? .maybeExecuted : .executed) : .notSent
        end(call, error.with(outcome), droppingQueue: true)
    }

    /// Answers with an error. Messages written before stay before it unless they are dropped.
    private func end(_ call: RPCCall, _ error: RPCError, droppingQueue: Bool) {
        guard !call.isOver else { return }
        let lane = lane(call.lane)
        call.ignoresInput = true
        if droppingQueue {
            call.dropQueue()
            call.dropDelivered()
            // Where the caller had finished, a handler that still reads must not take what is left for all there was.
            call.outcome = .failure(error)
            stopHandler(call)
        }
        if !call.isRunning { release(call) }
        guard call.id > 0 else { return concludeServer(call) }
        call.isClosing = false
        call.ending = .failure(trimmed(error))
        if droppingQueue { lane.makeReady(call, first: true) } else { submit(call) }
    }

    private func submit(_ call: RPCCall) {
        let lane = lane(call.lane)
        if lane.ready.isEmpty, call.isSendable, mayEncode(lane) { encodeFrame(of: call, lane) }
        lane.makeReady(call)
    }

    private func stopHandler(_ call: RPCCall) {
        guard call.isRunning else { return }
        if call.awaitsRequest {
            // It was never started.
            call.awaitsRequest = false
            call.isRunning = false
        } else {
            events.append(.cancelled(call))
        }
        tellWaiters(call)
    }

    /// The last frame of a call is encoded, or there will be none: the number is free.
    func concludeServer(_ call: RPCCall) {
        guard call.phase != .over else { return }
        stopHandlerAfterEnd(call)
        call.phase = .over
        call.dropQueue()
        call.ignoresInput = true
        lane(call.lane).remove(call)
        if !call.isRunning {
            call.dropDelivered()
            release(call)
            activeCount -= 1
        }
        tellWaiters(call)
    }

    private func stopHandlerAfterEnd(_ call: RPCCall) {
        guard call.isRunning, failure != nil else { return }
        stopHandler(call)
    }

    /// An error within the limits that the other side puts on one.
    private func trimmed(_ error: RPCError) -> RPCError {
        var error = error
        if error.message.utf8.count > limits.errorTextSize {
            let mark = " […]"
            error.message = String(
                decoding: Array(error.message.utf8.prefix(limits.errorTextSize - mark.utf8.count)), as: UTF8.self)
            // A character that was cut became a longer replacement; drop whole characters until it fits.
            while error.message.utf8.count > limits.errorTextSize - mark.utf8.count { error.message.removeLast() }
            error.message += mark
        }
        if error.details.count > limits.errorDetailsSize {
            error.message =
                "details of \(error.details.count) bytes were left out; the limit is "
                + "\(limits.errorDetailsSize). \(error.message.prefix(1000))"
            error.details = Bytes()
        }
        return error
    }
}
