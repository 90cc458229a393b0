import DequeModule
import MartletCore
import MartletRPC
import Synchronization

/// The frames that wait to be sent on one inbound stream, for all its handlers.
///
/// One task writes them, so that no frame is cut by the cancellation of the handler it came from. Handlers wait, in order,
/// while more than a limit is queued: so a slow reader slows them.
final class LatticaOutbox: Sendable {
    private struct State {
        var frames: Deque<LatticaStreamFrame> = []
        var byteCount = 0
        var line = WaitingLine<LatticaStreamFrame>()
        var writer: UnsafeContinuation<LatticaStreamFrame?, Never>?
        var isFinished = false
        var failure: (any Error)?
    }

    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter limit: bytes queued before senders wait.
    init(limit: Int) { self.limit = limit }

    private static func cost(of frame: LatticaStreamFrame) -> Int {
        if case .data(_, let payload, _) = frame { payload.byteCount + 64 } else { 64 }
    }

    // MARK: Handlers

    /// Queues a frame, waiting for room.
    ///
    /// - Throws: why nothing is sent any more; `CancellationError`, and then the frame is not sent.
    func send(_ frame: LatticaStreamFrame) async throws {
        try Task.checkCancellation()
        let number: UInt64? = try state.withLock { state in
            if let failure = state.failure { throw failure }
            if state.line.isEmpty, state.byteCount <= limit { return nil }
            return state.line.takeNumber()
        }
        guard let number else { return append(frame) }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let failure: (any Error)? = state.withLock { state in
                    if let failure = state.failure { return failure }
                    state.line.join(number, frame, continuation)
                    return nil
                }
                if let failure { return continuation.resume(throwing: failure) }
                // There may be room by now, and a task cancelled before it came to wait has had its call of `onCancel`.
                admit()
                if Task.isCancelled { giveUp(number) }
            }
        } onCancel: {
            giveUp(number)
        }
    }

    private func giveUp(_ number: UInt64) {
        state.withLock { $0.line.remove(number) }?.resume(throwing: CancellationError())
    }

    /// Queues a frame at once: the few that end a call.
    func append(_ frame: LatticaStreamFrame) {
        let writer = state.withLock { state -> UnsafeContinuation<LatticaStreamFrame?, Never>? in
            guard state.failure == nil else { return nil }
            state.byteCount += Self.cost(of: frame)
            guard let writer = state.writer.take() else {
                state.frames.append(frame)
                return nil
            }
            return writer
        }
        writer?.resume(returning: frame)
    }

    /// Lets in who waits, as far as there is room.
    private func admit() {
        while true {
            let admitted = state.withLock { state in state.byteCount <= limit ? state.line.popFirst() : nil }
            guard let admitted else { return }
            append(admitted.item)
            admitted.continuation.resume()
        }
    }

    /// Nothing more will be queued; what is, is still sent.
    func finish() {
        let writer = state.withLock { state in
            state.isFinished = true
            return state.writer.take()
        }
        writer?.resume(returning: nil)
    }

    /// Nothing is sent any more; everybody who waits is told why.
    func fail(_ error: any Error) {
        var (writer, line) = state.withLock { state in
            if state.failure == nil { state.failure = error }
            defer {
                state.frames = []
                state.line = WaitingLine()
            }
            return (state.writer.take(), state.line)
        }
        writer?.resume(returning: nil)
        while let one = line.popFirst() { one.continuation.resume(throwing: error) }
    }

    /// Why sending ended, if not by `finish`.
    var failure: (any Error)? { state.withLock { $0.failure } }

    // MARK: The writer

    /// Writes frames until there will be none.
    func run(to stream: MeshStream) async {
        while let frame = await next() {
            do {
                for piece in frame.encoded.pieces { try await stream.write(piece) }
            } catch {
                fail(error)
                return stream.reset()
            }
            state.withLock { $0.byteCount -= Self.cost(of: frame) }
            admit()
        }
    }

    private func next() async -> LatticaStreamFrame? {
        await withUnsafeContinuation { continuation in
            let frame: LatticaStreamFrame?? = state.withLock { state in
                if let frame = state.frames.popFirst() { return .some(frame) }
                if state.isFinished || state.failure != nil { return .some(nil) }
                state.writer = continuation
                return nil
            }
            if let frame { continuation.resume(returning: frame) }
        }
    }
}
