import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// Serves one inbound stream of Lattica's stream protocol: a task for each call.
final class LatticaStreamSession: Sendable {
    private let stream: MeshStream
    private let state: LatticaState
    private let limits: LatticaLimits
    private let executor: any TaskExecutor
    private let machine: Mutex<LatticaStreamServer>
    private let reservation: LatticaBudget.Reservation
    private let outbox: LatticaOutbox

    private struct Handlers {
        var tasks: [String: (number: UInt64, task: Task<Void, Never>)] = [:]
        var lastNumber: UInt64 = 0
    }

    private let handlers = Mutex(Handlers())

    init(_ stream: MeshStream, state: LatticaState, executor: any TaskExecutor) {
        self.stream = stream
        self.state = state
        self.executor = executor
        limits = state.limits
        machine = Mutex(LatticaStreamServer(limits: limits))
        reservation = state.budget.reservation(for: stream.peer)
        outbox = LatticaOutbox(limit: limits.queuedReplyBytes)
    }

    /// Serves until the peer has finished and everything is answered.
    ///
    /// - Throws: when the stream is lost or the peer breaks the protocol.
    func run() async throws {
        async let writing: Void = outbox.run(to: stream)
        do {
            while let bytes = try await stream.read() { try await received(bytes) }
            guard machine.withLock({ $0.isBetweenFrames }) else {
                throw MartletError(.protocolViolation, "the stream ended inside a frame")
            }
            while let handler = handlers.withLock({ $0.tasks.values.first }) { await handler.task.value }
        } catch {
            outbox.fail(RPCError(.unavailable, "the caller is gone: \(error)"))
            stream.reset()
            for handler in handlers.withLock({ $0.tasks.values.map(\.task) }) { handler.cancel() }
            await writing
            throw error
        }
        outbox.finish()
        await writing
        if let failure = outbox.failure { throw failure }
    }

    private func received(_ bytes: Bytes) async throws {
        try machine.withLock { machine throws(LatticaError) in
            try machine.received(bytes)
            if let refusal = reservation.set(machine.bufferedByteCount, limits) {
                machine.refuseIncomplete(refusal)
                // What is with handlers was counted before; only a frame that is not complete can be left.
                guard reservation.set(machine.bufferedByteCount, limits) == nil else {
                    throw .messageTooLong(limit: limits.messageSize)
                }
            }
        }
        while let event = machine.withLock({ $0.nextEvent() }) {
            switch event {
            case .began(let id, let path):
                guard case .failure(let error) = state.method(path, .stream) else { continue }
                machine.withLock { machine in
                    machine.refuse(id, error.message)
                    _ = reservation.set(machine.bufferedByteCount, limits)
                }
            case .ready(let id, let path, let argument): start(id, path, argument)
            case .cancelled(let id): handlers.withLock { $0.tasks[id]?.task }?.cancel()
            case .send(let frame): try await outbox.send(frame)
            }
        }
    }

    private func start(_ id: String, _ path: String, _ argument: RPCMessage) {
        handlers.withLock { handlers in
            handlers.lastNumber += 1
            let number = handlers.lastNumber
            let task = Task(executorPreference: executor) {
                await self.serve(id, path, argument)
                self.handlers.withLock { handlers in
                    // The caller may have used the id again.
                    if handlers.tasks[id]?.number == number { handlers.tasks[id] = nil }
                }
            }
            handlers.tasks[id] = (number, task)
        }
    }

    /// Runs the handler of one call and sends what it gives.
    private func serve(_ id: String, _ path: String, _ argument: RPCMessage) async {
        var lastFrames: [LatticaStreamFrame] = [.close(id: id)]
        do {
            let method = try state.method(path, .stream).get()
            let context = RPCContext(peer: stream.peer, method: path)
            try await method.authorization.require(context)
            if case .serverStreaming(let handler) = method.handler {
                try await handler(argument, RPCWriter(LatticaItemSink(id, outbox)), context)
            } else {
                let result = try await method.runOnce(argument, context)
                try result.checkSize(limits)
                for frame in LatticaStreamFrame.result(id: id, result).dropLast() { try await outbox.send(frame) }
            }
        } catch {
            // A caller that gave up wants no reason.
            if !Task.isCancelled { lastFrames.insert(.error(id: id, text: LatticaFailure.text(of: error)), at: 0) }
        }
        machine.withLock { machine in
            machine.finished(id)
            _ = reservation.set(machine.bufferedByteCount, limits)
        }
        for frame in lastFrames { outbox.append(frame) }
    }
}

/// Sends the items of one call, each in a frame of its own.
private final class LatticaItemSink: RPCMessageSink {
    private let id: String
    private let outbox: LatticaOutbox

    init(_ id: String, _ outbox: LatticaOutbox) {
        self.id = id
        self.outbox = outbox
    }

    func send(_ message: RPCMessage) async throws {
        guard message.byteCount <= LatticaLimits.framePayloadSize else {
            throw RPCError(
                .resourceExhausted,
                "an item of \(message.byteCount) bytes; one frame carries \(LatticaLimits.framePayloadSize)")
        }
        try await outbox.send(.data(id: id, message, isEnd: false))
    }
}

extension RPCMethod {
    /// Runs a handler that gives one result. One that gives none gives an empty one.
    func runOnce(_ argument: RPCMessage, _ context: RPCContext) async throws -> RPCMessage {
        switch handler {
        case .unary(let handler): return try await handler(argument, context)
        case .oneWay(let handler):
            try await handler(argument, context)
            return RPCMessage()
        case .serverStreaming, .clientStreaming, .bidirectional:
            throw RPCError(.unimplemented, "\(path) does not give one result")
        }
    }
}

extension RPCMessage {
    /// - Throws: when a result is too long to be sent.
    func checkSize(_ limits: LatticaLimits) throws(RPCError) {
        guard byteCount <= limits.messageSize else {
            throw RPCError(.resourceExhausted, "a result of \(byteCount) bytes; messageSize is \(limits.messageSize)")
        }
    }
}
