import DequeModule
import MartletCore
import MartletRuntime
import MartletSwarm
import Synchronization

/// Joins one stream, which lives on its connection's loop, with the tasks that read and write it on any thread.
///
/// Tasks touch only the state behind the lock. What they leave there (bytes to send, credit to grant, finish, reset) is
/// carried to the stream when the loop runs this piece of work: one wake-up for everything left since the last.
final class StreamBridge: LoopWork, StreamHandler, @unchecked Sendable {
    /// Writers wait above the high mark until the queue has fallen below the low one.
    static let highWater = 1 << 20
    static let lowWater = 256 << 10
    /// Credit smaller than this waits for company: half a window is far more, so no window ever closes over it.
    private static let creditBatch = 16 << 10

    private struct State {
        var inbound: Deque<Bytes> = []
        var isRemoteFinished = false
        var closed: StreamCloseReason?
        var reader: UnsafeContinuation<Bytes?, any Error>?
        var credit = 0

        var outbound: Deque<Bytes> = []
        var outboundBytes = 0
        var muxerBytes = 0
        var writer: UnsafeContinuation<Void, any Error>?
        var wantsFinish = false
        var isFinished = false
        var wantsReset = false
        var isAbandoned = false

        var opened: UnsafeContinuation<Void, any Error>?
        var isOpen = false
        /// Who waits for the end of both directions.
        var closing: UnsafeContinuation<Void, Never>?
    }

    private let loop: EventLoop
    private let state = Mutex(State())
    /// Confined to the loop.
    private var stream: PeerStream?
    private var sending: Deque<Bytes> = []
    private let onOpen: (@Sendable (StreamBridge) -> Void)?

    /// - Parameter onOpen: called on the loop when an inbound stream is ready for its handler.
    init(loop: EventLoop, onOpen: (@Sendable (StreamBridge) -> Void)? = nil) {
        self.loop = loop
        self.onOpen = onOpen
    }

    // MARK: Tasks, on any thread

    enum Arrival {
        case bytes(Bytes)
        case end
        case failed(StreamCloseReason)
        case none
    }

    func takeArrival() -> Arrival {
        let (arrival, grants) = state.withLock { state in Self.take(&state) }
        if grants { loop.schedule(self) }
        return arrival
    }

    private static func take(_ state: inout State) -> (Arrival, Bool) {
        if let bytes = state.inbound.popFirst() {
            state.credit += bytes.count
            return (.bytes(bytes), state.credit >= creditBatch && state.closed == nil)
        }
        if state.isRemoteFinished { return (.end, false) }
        if let reason = state.closed { return (reason == .finished ? .end : .failed(reason), false) }
        return (.none, false)
    }

    func waitForArrival(_ reader: UnsafeContinuation<Bytes?, any Error>) {
        let (arrival, grants) = state.withLock { state in
            precondition(state.reader == nil, "two tasks read one stream at the same time")
            let taken = Self.take(&state)
            if case .none = taken.0 { state.reader = reader }
            return taken
        }
        if grants { loop.schedule(self) }
        switch arrival {
        case .bytes(let bytes): reader.resume(returning: bytes)
        case .end: reader.resume(returning: nil)
        case .failed(let reason): reader.resume(throwing: reason)
        case .none: break
        }
    }

    func cancelRead() {
        let reader = state.withLock { $0.reader.take() }
        reader?.resume(throwing: CancellationError())
    }

    /// Queues `bytes`; true when the writer should wait before it queues more.
    func enqueue(_ bytes: Bytes) throws -> Bool {
        let mustWait = try state.withLock { state in
            if let reason = state.closed { throw reason }
            if state.wantsFinish || state.isFinished {
                throw MartletError(.streamFinished, "the stream was finished on this side; nothing more can be written")
            }
            state.outbound.append(bytes)
            state.outboundBytes += bytes.count
            return state.outboundBytes + state.muxerBytes > Self.highWater
        }
        loop.schedule(self)
        return mustWait
    }

    func waitUntilWritable(_ writer: UnsafeContinuation<Void, any Error>) {
        let outcome: Result<Void, any Error>? = state.withLock { state in
            precondition(state.writer == nil, "two tasks write one stream at the same time")
            if let reason = state.closed { return .failure(reason) }
            if state.outboundBytes + state.muxerBytes <= Self.highWater { return .success(()) }
            state.writer = writer
            return nil
        }
        if let outcome { writer.resume(with: outcome) }
    }

    func cancelWrite() {
        let writer = state.withLock { $0.writer.take() }
        writer?.resume(throwing: CancellationError())
    }

    func finish() {
        state.withLock { $0.wantsFinish = true }
        loop.schedule(self)
    }

    func reset() {
        state.withLock { $0.wantsReset = true }
        loop.schedule(self)
    }

    /// Puts back the rest of a piece that was taken, to be read next. Its credit was granted with the piece.
    func putBack(_ bytes: Bytes) {
        state.withLock { state in
            state.inbound.prepend(bytes)
            state.credit -= bytes.count
        }
    }

    /// Nobody holds the stream any more. One that was not finished is reset. A finished one still has to bring the peer what
    /// was written, and the peer may take a while to finish too: it gets the connection's stream time-out for that and, since
    /// nothing is read any more, no more room than it has.
    func abandon() {
        let isOpen = state.withLock { state in
            state.isAbandoned = true
            state.inbound = []
            if !state.wantsFinish { state.wantsReset = true }
            return state.closed == nil
        }
        if isOpen { loop.schedule(self) }
    }

    /// Resumes when the protocol is agreed on.
    func waitUntilOpen(_ opened: UnsafeContinuation<Void, any Error>) {
        let outcome: Result<Void, any Error>? = state.withLock { state in
            if let reason = state.closed { return .failure(reason) }
            if state.isOpen { return .success(()) }
            state.opened = opened
            return nil
        }
        if let outcome { opened.resume(with: outcome) }
    }

    /// Resumes when both directions have ended, in whatever way.
    func waitUntilClosed(_ closing: UnsafeContinuation<Void, Never>) {
        let isClosed = state.withLock { state in
            precondition(state.closing == nil, "two tasks wait for the end of one stream")
            if state.closed == nil { state.closing = closing }
            return state.closed != nil
        }
        if isClosed { closing.resume() }
    }

    func cancelWaitUntilClosed() {
        let closing = state.withLock { $0.closing.take() }
        closing?.resume()
    }

    // MARK: The loop

    /// Carries to the stream what tasks left since the last time.
    override func run() {
        let (credit, finishes, resets, waits) = state.withLock { state in
            swap(&state.outbound, &sending)
            state.outboundBytes = 0
            let waits = state.isAbandoned && !state.isRemoteFinished
            let left = (state.credit, state.wantsFinish && !state.isFinished, state.wantsReset, waits)
            state.credit = min(state.credit, 0)
            if state.wantsFinish { state.isFinished = true }
            state.wantsReset = false
            return left
        }
        guard let stream, let connection = stream.connection else {
            sending.removeAll(keepingCapacity: false)
            return
        }
        connection.advance(to: loop.now)
        while let bytes = sending.popFirst() { stream.send(bytes) }
        // A piece put back makes the credit negative for a moment.
        if credit > 0 { stream.consumed(credit) }
        if finishes { stream.finish() }
        if resets { return stream.reset() }
        if waits { stream.startDeadline() }
        resumeWriter(queued: stream.queuedByteCount, limit: Self.highWater)
    }

    private func resumeWriter(queued: Int, limit: Int) {
        let writer = state.withLock { state -> UnsafeContinuation<Void, any Error>? in
            state.muxerBytes = queued
            return state.outboundBytes + queued <= limit ? state.writer.take() : nil
        }
        writer?.resume()
    }

    /// Gives the bridge its stream before any of the calls below.
    func attach(_ stream: PeerStream) { self.stream = stream }

    func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        let opened = state.withLock { state in
            state.isOpen = true
            return state.opened.take()
        }
        opened?.resume()
        onOpen?(self)
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        let (reader, credit) = state.withLock { state -> (UnsafeContinuation<Bytes?, any Error>?, Int) in
            guard let reader = state.reader.take() else {
                if !state.isAbandoned { state.inbound.append(bytes) }
                return (nil, 0)
            }
            // A reader was waiting, so the bytes are as good as used: their credit goes out without another turn.
            state.credit += bytes.count
            guard state.credit >= Self.creditBatch else { return (reader, 0) }
            defer { state.credit = 0 }
            return (reader, state.credit)
        }
        reader?.resume(returning: bytes)
        if credit > 0 { stream.consumed(credit) }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        let reader = state.withLock { state in
            state.isRemoteFinished = true
            return state.reader.take()
        }
        reader?.resume(returning: nil)
    }

    func streamWritable(_ stream: PeerStream) {
        resumeWriter(queued: stream.queuedByteCount, limit: Self.highWater)
    }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        self.stream = nil
        let (reader, writer, opened, ended, closing) = state.withLock { state in
            state.closed = reason
            state.outbound = []
            // What came before the peer's end is whole, whatever the peer does after it: some reset a stream they are done with.
            if reason != .finished, !state.isRemoteFinished { state.inbound = [] }
            let ended = state.isRemoteFinished || reason == .finished
            return (state.reader.take(), state.writer.take(), state.opened.take(), ended, state.closing.take())
        }
        closing?.resume()
        if ended { reader?.resume(returning: nil) } else { reader?.resume(throwing: reason) }
        writer?.resume(throwing: reason)
        opened?.resume(throwing: reason)
    }
}
