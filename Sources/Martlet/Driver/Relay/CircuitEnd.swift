import DequeModule
import MartletCore
import MartletReachability
import MartletRuntime
import MartletSwarm
import Synchronization

/// One of the two streams of a circuit, on the loop of its connection. What it receives goes to the other end, which may be on
/// another loop: then it is carried there once a turn.
///
/// Bytes are passed on by reference, as they were decrypted; the end-to-end encryption inside them is not touched. Each end
/// keeps the account (`CircuitFlow`) of the bytes that go out on it.
final class CircuitEnd: LoopWork, @unchecked Sendable {
    /// What the other end left here, behind a lock.
    private struct Mailbox {
        var bytes: Deque<Bytes> = []
        var credit = 0
        var isFinished = false
        var isReset = false
    }

    let loop: EventLoop
    /// The end of the peer that asked for the circuit. Until it is open, what becomes of it is said with a status.
    private let isSource: Bool
    private let mailbox = Mutex(Mailbox())
    private let terms: CircuitTerms
    private let onClosed: @Sendable () -> Void

    // Confined to the loop from here on.
    private var other: CircuitEnd?
    private var stream: PeerStream?
    private var flow: CircuitFlow
    /// Both sides have agreed: bytes may go out.
    private var isOpen = false
    private var isClosed = false
    private var rateTimer: LoopTimer?
    private var lifeTimer: LoopTimer?
    /// Runs once this end's peer has said that it sends nothing more.
    private var halfClosedTimer: LoopTimer?
    /// When bytes last went out here.
    private var lastForward = Instant(nanoseconds: 0)

    /// - Parameter onClosed: called once, on the loop, when nothing more happens here.
    private init(
        loop: EventLoop, isSource: Bool, terms: CircuitTerms, now: Instant, onClosed: @escaping @Sendable () -> Void
    ) {
        self.loop = loop
        self.isSource = isSource
        self.terms = terms
        self.onClosed = onClosed
        flow = CircuitFlow(
            byteLimit: terms.limit?.byteCount, rate: terms.rate, queueLimit: terms.queueLimit, now: now)
    }

    /// The two ends of a circuit.
    ///
    /// - Parameter onEnd: called once, on either loop, when both are over.
    static func pair(
        _ source: EventLoop, _ target: EventLoop, terms: CircuitTerms, now: Instant,
        onEnd: @escaping @Sendable () -> Void
    ) -> (source: CircuitEnd, target: CircuitEnd) {
        let count = OpenEnds()
        let onClosed: @Sendable () -> Void = { if count.closed() { onEnd() } }
        let source = CircuitEnd(loop: source, isSource: true, terms: terms, now: now, onClosed: onClosed)
        let target = CircuitEnd(loop: target, isSource: false, terms: terms, now: now, onClosed: onClosed)
        source.other = target
        target.other = source
        return (source, target)
    }

    // MARK: The life of the stream

    /// The stream that this is an end of. Bytes go out only from `open()` on.
    func attach(_ stream: PeerStream) {
        guard !isClosed else { return stream.reset() }
        self.stream = stream
        stream.limitWindow(to: terms.window)
        run()
    }

    /// Both sides have agreed on the circuit.
    func open() {
        guard !isClosed else { return }
        isOpen = true
        if let duration = terms.limit?.duration {
            let timer = LoopTimer(loop: loop) { [weak self] in self?.stream?.reset() }
            timer.schedule(at: loop.now + duration)
            lifeTimer = timer
        }
        run()
    }

    /// The stream is over, or was never there; the circuit is, too, unless both sides finished.
    func close(isOrderly: Bool) {
        guard !isClosed else { return }
        isClosed = true
        stream = nil
        rateTimer?.cancel()
        lifeTimer?.cancel()
        halfClosedTimer?.cancel()
        let other = other.take()
        if !isOrderly { other?.post { $0.isReset = true } }
        mailbox.withLock { $0 = Mailbox() }
        onClosed()
    }

    /// Whether the other end is over, so that this one is to be reset.
    var isCutOff: Bool { mailbox.withLock(\.isReset) }

    // MARK: From the stream

    func received(_ bytes: Bytes) {
        guard let other else { return }
        if other.loop === loop, other.isOpen {
            other.forward(bytes)
            other.grant()
        } else {
            other.post { $0.bytes.append(bytes) }
        }
    }

    func remoteFinished() {
        other?.post { $0.isFinished = true }
        guard !isClosed, halfClosedTimer == nil else { return }
        lastForward = loop.now
        let timer = LoopTimer(loop: loop) { [weak self] in self?.endIfIdle() }
        timer.schedule(at: loop.now + terms.halfClosedTimeout)
        halfClosedTimer = timer
    }

    /// One direction has ended, and the other moves nothing: whoever should end it has forgotten.
    private func endIfIdle() {
        guard !isClosed else { return }
        let end = lastForward + terms.halfClosedTimeout
        if loop.now >= end { stream?.reset() } else { halfClosedTimer?.schedule(at: end) }
    }

    /// The queue has drained as far as was asked for.
    func writable() { grant() }

    // MARK: From the other end

    private func post(_ body: (inout Mailbox) -> Void) {
        mailbox.withLock { body(&$0) }
        loop.schedule(self)
    }

    /// Takes what the other end left: credit at once, bytes when the circuit is open.
    override func run() {
        guard let stream, !isClosed else {
            // Not there yet, or gone for good.
            if isClosed { mailbox.withLock { $0 = Mailbox() } }
            return
        }
        var left = mailbox.withLock { mailbox -> Mailbox in
            var taken = Mailbox()
            if isOpen || (mailbox.isReset && !isSource) {
                swap(&taken, &mailbox)
            } else {
                swap(&taken.credit, &mailbox.credit)
            }
            return taken
        }
        stream.connection?.advance(to: loop.now)
        if left.isReset { return stream.reset() }
        stream.consumed(left.credit)
        if !left.bytes.isEmpty {
            while let bytes = left.bytes.popFirst(), !isClosed { forward(bytes) }
            grant()
        }
        if left.isFinished { stream.finish() }
    }

    private func forward(_ bytes: Bytes) {
        guard let stream, !isClosed else { return }
        stream.connection?.advance(to: loop.now)
        let allowed = flow.received(bytes.count)
        stream.send(bytes.prefix(allowed))
        lastForward = loop.now
        terms.statistics.passed(allowed)
        if allowed < bytes.count {
            terms.statistics.cutOff()
            stream.reset()
        }
    }

    /// Lets the other end's peer send as much as has gone out here.
    private func grant() {
        guard let stream, let other, !isClosed else { return }
        let grant = flow.grant(queued: stream.queuedByteCount, shared: terms.shared, now: loop.now)
        if grant.byteCount > 0 { other.credit(grant.byteCount, from: loop) }
        if let mark = grant.queueMark { stream.notifyWritable(atOrBelow: mark) }
        if let attempt = grant.nextAttempt {
            let timer = rateTimer ?? LoopTimer(loop: loop) { [weak self] in self?.grant() }
            rateTimer = timer
            timer.schedule(at: attempt)
        }
    }

    private func credit(_ count: Int, from otherLoop: EventLoop) {
        guard loop === otherLoop else { return post { $0.credit += count } }
        stream?.connection?.advance(to: loop.now)
        stream?.consumed(count)
    }
}

/// What holds for one circuit.
struct CircuitTerms: Sendable {
    let limit: ConnectionLimit?
    /// Bytes a second in each direction.
    let rate: Int?
    /// The rate of all circuits together.
    let shared: RateLimit?
    let queueLimit: Int
    let window: Int
    /// How long the circuit may move nothing once one side has finished.
    let halfClosedTimeout: Duration
    let statistics: RelayStatistics
}

/// Tells when the second of two is over.
private final class OpenEnds: Sendable {
    private let count = Atomic<Int>(2)

    func closed() -> Bool { count.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
}
