import DequeModule
public import MartletCore

/// Yamux 1.0.0: many streams over one ordered connection. A sans-I/O machine that knows nothing of encryption.
///
/// Plaintext goes in by `receive`; frames come out by `fill`; what happened stands in `events`; and when the session has
/// ended, `outcome` says why. `SecureConnection` puts it over Noise.
///
/// What a peer can grow, and its bound: streams (`maximumStreams`, then refused), bytes of a stream not yet taken by the
/// application (its window), windows (per stream, connection and node), answers not yet sent
/// (`maximumQueuedControlFrames`, then the session ends), data for streams that are gone (what their windows allowed,
/// then the session ends). Ids of closed streams are not remembered one by one: an id that is in no table is either
/// below the next own one, and then closed, or the peer's, and then closed or not yet opened.
///
/// Specification: libp2p/specs `yamux/README.md`.
@_spi(Fuzzing)
public final class YamuxSession {
    public static let protocolID = "/yamux/1.0.0"
    /// The payload of one DATA frame at most, and about what a stream sends in one turn of its class. A configuration may
    /// want less.
    static let frameLimit = ConnectionConfiguration.largestFrame

    let role: ConnectionRole
    let configuration: ConnectionConfiguration
    let budget: WindowBudget?
    @exclusivity(unchecked) private var random: RandomSource

    /// What happened, oldest first.
    @exclusivity(unchecked) var events = Deque<ConnectionEvent>()
    /// Why the session has ended; nil while it goes on.
    @exclusivity(unchecked) public private(set) var outcome: ConnectionCloseReason?
    /// The same as a bare bit, since it is asked for with every frame.
    @exclusivity(unchecked) public private(set) var hasEnded = false

    // The attribute below spares the run-time check for overlapping access, which costs a fifth of a small message.
    // Nothing here overlaps: the session is confined to a loop and calls nobody's code but its own.

    // Streams.
    @exclusivity(unchecked) var streams: [UInt32: YamuxStream] = [:]
    /// The stream looked up last: bulk data finds it without the table.
    @exclusivity(unchecked) private var recent: YamuxStream?
    /// The id of the next own stream; beyond `UInt32.max` when all are used.
    @exclusivity(unchecked) var nextID: UInt64
    @exclusivity(unchecked) var inboundCount = 0
    @exclusivity(unchecked) var unacknowledgedCount = 0

    // Receiving; see `YamuxSession+Receive.swift`.
    @exclusivity(unchecked) var body = IncomingBody()
    @exclusivity(unchecked) var partialHeader = PartialHeader()
    /// How many bytes may still come for streams that are gone.
    @exclusivity(unchecked) var strayAllowance = 256 * 1024
    /// The receive windows of all streams together.
    @exclusivity(unchecked) var windowTotal = 0

    // Sending; see `YamuxSession+Transmit.swift`.
    @exclusivity(unchecked) var answers = Deque<YamuxHeader>()
    @exclusivity(unchecked) var notices = YamuxStreamList<NoticeSlot>()
    @exclusivity(unchecked) var ready: InlineArray<3, YamuxStreamList<ReadySlot>> = .init(repeating: YamuxStreamList())
    /// Bytes queued on all streams.
    @exclusivity(unchecked) var queuedTotal = 0
    @exclusivity(unchecked) var pendingGoAway: GoAwayCode?

    // Time; see `YamuxSession+Liveness.swift`.
    @exclusivity(unchecked) var liveness: YamuxLiveness
    /// The peer has said that it ends the session once the open streams are done.
    @exclusivity(unchecked) var remoteIsLeaving = false
    /// Until when `close` waits; nil when it was not called.
    @exclusivity(unchecked) var closingUntil: Instant?

    public init(
        role: ConnectionRole, configuration: ConnectionConfiguration, budget: WindowBudget?, random: RandomSource,
        now: Instant
    ) {
        self.role = role
        self.configuration = configuration
        self.budget = budget
        self.random = random
        nextID = role == .dialer ? 1 : 2
        liveness = YamuxLiveness(configuration: configuration, now: now)
    }

    deinit {
        for stream in streams.values { releaseWindow(of: stream) }
    }

    public var streamCount: Int { streams.count }

    public func nextEvent() -> ConnectionEvent? { events.popFirst() }

    /// Ends the session; the first reason stands.
    func conclude(_ reason: ConnectionCloseReason) {
        guard !hasEnded else { return }
        hasEnded = true
        outcome = reason
    }

    // MARK: What the application does

    public func openStream(now: Instant) throws(StreamOpenError) -> StreamID {
        guard !hasEnded else { throw .closed }
        guard closingUntil == nil, !remoteIsLeaving else { throw .closing }
        guard unacknowledgedCount < configuration.ackBacklog else {
            throw .tooManyUnacknowledged(limit: configuration.ackBacklog)
        }
        guard nextID <= UInt64(UInt32.max) else { throw .idsExhausted }
        let stream = YamuxStream(
            id: UInt32(truncatingIfNeeded: nextID), isOutbound: true, window: configuration.initialWindow)
        nextID += 2
        unacknowledgedCount += 1
        add(stream)
        notices.append(stream)
        return stream.streamID
    }

    public func send(_ bytes: Bytes, on id: StreamID) {
        guard !bytes.isEmpty, !hasEnded, let stream = stream(id), !stream.isFinishing else { return }
        stream.queue.append(bytes)
        queuedTotal += bytes.count
        if stream.queue.byteCount > configuration.sendHighWater {
            stream.writableMark = max(stream.writableMark, configuration.sendLowWater)
        }
        if stream.sendWindow > 0 { ready[Int(stream.priority.rawValue)].append(stream) }
    }

    public func queuedByteCount(on id: StreamID) -> Int {
        stream(id)?.queue.byteCount ?? 0
    }

    public func notifyWritable(atOrBelow byteCount: Int, on id: StreamID) {
        guard byteCount >= 0, let stream = stream(id), stream.queue.byteCount > byteCount else { return }
        stream.writableMark = max(stream.writableMark, byteCount)
    }

    public func limitWindow(to byteCount: Int, on id: StreamID) {
        stream(id)?.windowCeiling = byteCount
    }

    public func finish(_ id: StreamID) {
        guard !hasEnded, let stream = stream(id), !stream.isFinishing else { return }
        stream.isFinishing = true
        if stream.isSendable { ready[Int(stream.priority.rawValue)].append(stream) }
    }

    public func reset(_ id: StreamID) {
        guard !hasEnded, let stream = stream(id) else { return }
        let isKnownToPeer = !stream.mustSendSYN
        forget(stream)
        guard isKnownToPeer else { return }
        answers.append(YamuxHeader(.windowUpdate, .rst, stream: stream.id, length: 0))
    }

    public func setPriority(_ priority: StreamPriority, of id: StreamID) {
        guard let stream = stream(id), stream.priority != priority else { return }
        let isReady = stream.readyLink.isLinked
        if isReady { ready[Int(stream.priority.rawValue)].remove(stream) }
        stream.priority = priority
        stream.deficit = 0
        if isReady { ready[Int(priority.rawValue)].append(stream) }
    }

    /// Ends the session once what is queued is sent, or at `closeTimeout` from now.
    public func close(now: Instant) {
        guard !hasEnded, closingUntil == nil else { return }
        closingUntil = now + configuration.closeTimeout
    }

    // MARK: The table

    /// The live stream called `id`.
    @inline(__always)
    func stream(_ id: StreamID) -> YamuxStream? {
        guard let id = UInt32(exactly: id.rawValue) else { return nil }
        return stream(id)
    }

    @inline(__always)
    func stream(_ id: UInt32) -> YamuxStream? {
        if let recent, recent.id == id { return recent }
        return lookUp(id)
    }

    @inline(never)
    private func lookUp(_ id: UInt32) -> YamuxStream? {
        guard let found = streams[id] else { return nil }
        recent = found
        return found
    }

    func add(_ stream: YamuxStream) {
        streams[stream.id] = stream
        recent = stream
        windowTotal += stream.windowLimit
        if !stream.isOutbound { inboundCount += 1 }
    }

    /// Drops a stream from every list and table.
    func forget(_ stream: YamuxStream) {
        guard !stream.isForgotten else { return }
        stream.isForgotten = true
        streams[stream.id] = nil
        if recent === stream { recent = nil }
        notices.remove(stream)
        ready[Int(stream.priority.rawValue)].remove(stream)
        queuedTotal -= stream.queue.byteCount
        stream.queue.removeAll()
        if stream.isOutbound {
            if !stream.isAcknowledged { unacknowledgedCount -= 1 }
        } else {
            inboundCount -= 1
        }
        // What the peer was allowed to send may be under way already.
        if !stream.hasReceivedFIN { allowStrays(stream.receiveWindow) }
        windowTotal -= stream.windowLimit
        releaseWindow(of: stream)
        if remoteIsLeaving, streams.isEmpty, !hasEnded { conclude(.goneAway(.normal)) }
    }

    func allowStrays(_ count: Int) {
        strayAllowance = min(strayAllowance + count, 1 << 40)
    }

    private func releaseWindow(of stream: YamuxStream) {
        let grown = stream.windowLimit - configuration.initialWindow
        if grown > 0 { budget?.release(grown) }
    }

    /// Lets go of all streams without a word to anyone: the session has ended.
    func dropStreams() {
        for stream in streams.values {
            stream.isForgotten = true
            notices.remove(stream)
            ready[Int(stream.priority.rawValue)].remove(stream)
            releaseWindow(of: stream)
        }
        streams = [:]
        recent = nil
        body = IncomingBody()
        queuedTotal = 0
        inboundCount = 0
        unacknowledgedCount = 0
        windowTotal = 0
    }

    /// The session starts to count time.
    func begin(now: Instant) {
        liveness = YamuxLiveness(configuration: configuration, now: now)
    }

    func randomWord() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) }

    /// Gives back memory that a rest does not need.
    func trim() {
        if events.isEmpty { events = Deque() }
        if answers.isEmpty { answers = Deque() }
        if streams.isEmpty { streams = [:] }
        // The order of the table reaches nothing here.
        for stream in streams.values { stream.queue.trim() }
    }
}
