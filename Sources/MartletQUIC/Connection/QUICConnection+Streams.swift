import CNgtcp2
public import MartletConnection
public import MartletCore

extension QUICConnection {
    /// How many round trips half a window may last before it counts as too small, and the round trip assumed at least: within
    /// one machine the true one is shorter than the time that the two loops take over a turn.
    private static let growthRoundTrips: Int64 = 2
    private static let shortestRoundTrip: UInt64 = 1_000_000
    /// What a reset tells the peer: libp2p gives the code no meaning.
    private static let resetCode: UInt64 = 0

    // MARK: Opening

    public var streamCount: Int { liveCount }

    public func openStream(now: Instant) throws(StreamOpenError) -> StreamID {
        guard let handle, !isClosed else { throw .closed }
        guard remote != nil else { throw .notEstablished }
        guard closeDeadline == nil else { throw .closing }
        self.now = now
        let id = mq_open_stream(handle)
        guard id >= 0 else {
            if id == -1 { throw .tooManyUnacknowledged(limit: liveCount) }
            throw .idsExhausted
        }
        return add(id).streamID
    }

    private func add(_ id: Int64) -> QUICStream {
        let stream = QUICStream(id: id, window: configuration.initialWindow)
        streams[id] = stream
        liveCount += 1
        return stream
    }

    func stream(_ id: Int64) -> QUICStream? {
        if let lastStream, lastStream.id == id { return lastStream }
        let found = streams[id]
        if found != nil { lastStream = found }
        return found
    }

    /// A stream that the owner knows.
    private func live(_ id: StreamID) -> QUICStream? {
        guard let raw = Int64(exactly: id.rawValue), let stream = stream(raw), !stream.isForgotten else { return nil }
        return stream
    }

    // MARK: Sending

    public func send(_ bytes: Bytes, on id: StreamID) {
        guard let stream = live(id), !stream.isFinishing, !bytes.isEmpty else { return }
        // The peer will not read it, and the owner must not believe otherwise.
        guard !stream.isSendEnded else { return breakOff(stream) }
        stream.queue.append(bytes)
        if stream.queue.unsentCount > configuration.sendHighWater {
            stream.writableMark = max(stream.writableMark, configuration.sendLowWater)
        }
        scheduler.add(stream)
        mayTransmit = true
    }

    public func queuedByteCount(on id: StreamID) -> Int { live(id)?.queue.unsentCount ?? 0 }

    public func notifyWritable(atOrBelow byteCount: Int, on id: StreamID) {
        guard byteCount >= 0, let stream = live(id), stream.queue.unsentCount > byteCount else { return }
        stream.writableMark = max(stream.writableMark, byteCount)
    }

    public func limitWindow(to byteCount: Int, on id: StreamID) {
        live(id)?.windowCeiling = byteCount
    }

    public func finish(_ id: StreamID) {
        guard let stream = live(id), !stream.isFinishing else { return }
        stream.isFinishing = true
        guard !stream.isSendEnded else { return sentEnd(stream) }
        scheduler.add(stream)
        mayTransmit = true
    }

    public func reset(_ id: StreamID) {
        guard let stream = live(id) else { return }
        forget(stream)
        shutDown(stream)
    }

    public func setPriority(_ priority: StreamPriority, of id: StreamID) {
        guard let stream = live(id), stream.priority != priority else { return }
        let old = stream.priority
        stream.priority = priority
        scheduler.move(stream, from: old)
    }

    /// The next data for a packet.
    func nextData(
        _ room: UnsafeMutablePointer<mq_piece>, limit: Int, count: inout Int, isEnd: inout CInt
    ) -> Int64 {
        guard !isConnectionFull, let stream = scheduler.next() else { return -1 }
        lastStream = stream
        let byteLimit = QUICScheduler.turnByteCount
        let offer = stream.queue.next(room, limit: limit, byteLimit: byteLimit)
        count = offer.pieces
        isEnd = stream.isFinishing && offer.bytes == stream.queue.unsentCount ? 1 : 0
        return stream.id
    }

    func dataTaken(_ id: Int64, _ count: Int, isEnd: Bool, _ how: mq_taken) {
        guard let stream = stream(id) else { return }
        switch how {
        case MQ_STREAM_FULL: stream.isBlocked = true
        case MQ_CONNECTION_FULL: isConnectionFull = true
        case MQ_STREAM_ENDED: sendEnded(stream)
        default:
            stream.queue.sent(count)
            scheduler.sent(count, of: stream)
            if stream.queue.unsentCount <= stream.writableMark {
                stream.writableMark = -1
                if !stream.isForgotten { push(.writable(stream.streamID)) }
            }
            if isEnd { sentEnd(stream) }
        }
    }

    /// The peer reads nothing more. What waits to be sent cannot arrive, and only then is the stream broken: peers also stop
    /// reading when they have all that they want.
    private func sendEnded(_ stream: QUICStream) {
        let isCut = stream.queue.unsentCount > 0
        stream.isSendEnded = true
        stream.queue.dropUnsent()
        guard !stream.isForgotten else { return }
        if isCut { breakOff(stream) } else if stream.isFinishing { sentEnd(stream) }
    }

    private func sentEnd(_ stream: QUICStream) {
        stream.hasSentEnd = true
        if stream.hasReceivedEnd, !stream.isForgotten {
            push(.streamClosed(stream.streamID))
            forget(stream)
        }
    }

    func acknowledged(_ id: Int64, upTo end: UInt64) { stream(id)?.queue.acknowledged(upTo: end) }

    func hasRoom(_ id: Int64) {
        guard let stream = stream(id) else { return }
        stream.isBlocked = false
        scheduler.add(stream)
    }

    // MARK: Receiving

    func opened(_ id: Int64) {
        let stream = add(id)
        if closeDeadline != nil {
            forget(stream)
            return shutDown(stream)
        }
        push(.inboundStream(stream.streamID))
    }

    func received(_ id: Int64, _ bytes: UnsafeRawBufferPointer, isEnd: Bool) {
        guard let handle else { return }
        guard let stream = stream(id), !stream.isForgotten else {
            // Nobody takes these bytes; the connection's window must not shrink by them.
            return mq_extend_connection(handle, UInt64(bytes.count))
        }
        if runStream !== stream { flushRun() }
        var rest = bytes
        while !rest.isEmpty {
            runStream = stream
            let taken = inbox.append(rest)
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
            if !rest.isEmpty { flushRun() }
        }
        stream.unconsumed += bytes.count
        guard isEnd else { return }
        stream.hasReceivedEnd = true
        push(.remoteFinished(stream.streamID))
        if stream.hasSentEnd { sentEnd(stream) }
    }

    func resetByPeer(_ id: Int64) {
        guard let stream = stream(id), !stream.isForgotten else { return }
        breakOff(stream)
    }

    /// Both directions have ended, so the library forgets the stream.
    func closedByLibrary(_ id: Int64) {
        guard let stream = streams.removeValue(forKey: id) else { return }
        if lastStream === stream { lastStream = nil }
        if !stream.isForgotten {
            // A peer that has said everything and then reads no more (STOP_SENDING) is done with the stream. It has broken it
            // only if something was still to be sent.
            let isWhole = stream.hasReceivedEnd && stream.queue.unsentCount == 0
            push(isWhole ? .streamClosed(stream.streamID) : .streamReset(stream.streamID))
            forget(stream)
        }
        // The peer may open one in its place: its streams have the lowest bit of the side that opens them.
        let isOurs = (id & 1 == 0) == (role == .dialer)
        if !isOurs, let handle { mq_extend_streams(handle, 1) }
    }

    /// Asks the peer to send no more. The other direction goes on.
    func stopReading(_ id: StreamID) {
        guard let handle, let stream = live(id) else { return }
        mayTransmit = true
        mq_stop_reading(handle, stream.id)
    }

    public func consumed(_ count: Int, on id: StreamID, now: Instant) {
        guard count > 0, let handle, !isClosed, let stream = live(id) else { return }
        self.now = now
        let taken = min(count, stream.unconsumed)
        guard taken > 0 else { return }
        stream.unconsumed -= taken
        mq_extend_connection(handle, UInt64(taken))
        mayTransmit = true
        guard !stream.hasReceivedEnd else { return }
        stream.consumedInEpoch += taken
        let growth = growth(of: stream, handle)
        mq_extend_stream(handle, stream.id, UInt64(taken + growth))
    }

    /// A window of which half was taken within two round trips limits the flow, and doubles as far as the limits allow.
    private func growth(of stream: QUICStream, _ handle: OpaquePointer) -> Int {
        guard stream.consumedInEpoch >= stream.window / 2 else { return 0 }
        stream.consumedInEpoch = 0
        defer { stream.epoch = now }
        let ceiling = min(configuration.maximumStreamWindow, stream.windowCeiling)
        guard let epoch = stream.epoch, stream.window < ceiling else { return 0 }
        var latest: UInt64 = 0
        var smoothed: UInt64 = 0
        mq_round_trip(handle, &latest, &smoothed)
        let roundTrip = Int64(clamping: max(smoothed, Self.shortestRoundTrip))
        guard (now - epoch).nanoseconds / Self.growthRoundTrips < roundTrip else { return 0 }
        let growth = min(stream.window, ceiling - stream.window)
        guard windowTotal + growth <= configuration.maximumConnectionWindow, budget?.reserve(growth) ?? true else {
            return 0
        }
        windowTotal += growth
        stream.window += growth
        stream.windowGrowth += growth
        return growth
    }

    // MARK: Ending

    /// Ends both directions and tells the owner.
    private func breakOff(_ stream: QUICStream) {
        push(.streamReset(stream.streamID))
        forget(stream)
        shutDown(stream)
    }

    private func shutDown(_ stream: QUICStream) {
        stream.isSendEnded = true
        stream.queue.dropUnsent()
        mayTransmit = true
        if let handle { mq_reset_stream(handle, stream.id, Self.resetCode) }
    }

    /// The owner hears nothing more of the stream.
    private func forget(_ stream: QUICStream) {
        guard !stream.isForgotten else { return }
        if runStream === stream { discardRun(stream) }
        stream.isForgotten = true
        liveCount -= 1
        if stream.unconsumed > 0, let handle {
            mq_extend_connection(handle, UInt64(stream.unconsumed))
            stream.unconsumed = 0
        }
        windowTotal -= stream.windowGrowth
        budget?.release(stream.windowGrowth)
        stream.windowGrowth = 0
    }

    private func discardRun(_ stream: QUICStream) {
        runStream = nil
        _ = inbox.take()
    }
}
