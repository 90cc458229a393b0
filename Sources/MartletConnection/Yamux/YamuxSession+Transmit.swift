import DequeModule
public import MartletCore

extension YamuxSession {
    /// A record that has grown to this size is not begun a further frame in, so that full frames stand one to a record
    /// and small ones share.
    static let recordTarget = frameLimit
    /// The most that `fill` writes into one record.
    static let recordLimit = 2 * (frameLimit + YamuxHeader.byteCount)

    public var hasPendingTransmit: Bool {
        !answers.isEmpty || liveness.pingIsDue || !notices.isEmpty || hasReadyStream || pendingGoAway != nil
            || (closingUntil != nil && !hasEnded && queuedTotal == 0)
    }

    private var hasReadyStream: Bool { !ready[0].isEmpty || !ready[1].isEmpty || !ready[2].isEmpty }

    /// A payload from this size on ends its record and need not be copied into it: it can be encrypted from where it is.
    private static let detachThreshold = 12 * 1024

    /// Writes frames into `room` as far as they fit, and returns how many bytes they take; 0 when there are none.
    ///
    /// Answers go first, then pings, then window updates, then data by class. Nothing is allocated.
    ///
    /// - Parameter mayCut: whether a frame may be made shorter for want of room. With false it waits for the next record.
    public func fill(_ room: UnsafeMutableRawBufferPointer, mayCut: Bool = true, now: Instant) -> Int {
        var tail = Bytes()
        return fill(room, mayCut: mayCut, detaching: false, tail: &tail, now: now)
    }

    /// The same, but a large payload at the end of the record may be left in `tail`: its room is counted and not written.
    func fill(
        _ room: UnsafeMutableRawBufferPointer, mayCut: Bool, detaching: Bool, tail: inout Bytes, now: Instant
    ) -> Int {
        var writer = FrameWriter(room: room, mayDetach: detaching)
        guard !hasEnded else { return fillFarewell(&writer) }
        writeAnswers(&writer)
        if liveness.pingIsDue, writer.hasRoomForHeader {
            writer.write(YamuxHeader(.ping, .syn, stream: 0, length: liveness.pingSent(value: randomWord(), now: now)))
        }
        writeNotices(&writer)
        while writer.count < Self.recordTarget, !writer.isAtEnd, let stream = nextReady(),
            writeData(of: stream, &writer, mayCut: mayCut)
        {}
        if closingUntil != nil, queuedTotal == 0, !hasReadyStream, answers.isEmpty, writer.hasRoomForHeader {
            writer.write(YamuxHeader(.goAway, [], stream: 0, length: GoAwayCode.normal.rawValue))
            conclude(.closedLocally)
        }
        if writer.count > 0 { liveness.sent(now: now) }
        if writer.isAtEnd { tail = writer.tail }
        return writer.count
    }

    /// The last frame of a session that has ended, if there is one to send.
    private func fillFarewell(_ writer: inout FrameWriter) -> Int {
        guard let code = pendingGoAway, writer.hasRoomForHeader else { return 0 }
        pendingGoAway = nil
        writer.write(YamuxHeader(.goAway, [], stream: 0, length: code.rawValue))
        return writer.count
    }

    private func writeAnswers(_ writer: inout FrameWriter) {
        while writer.hasRoomForHeader, let header = answers.popFirst() { writer.write(header) }
    }

    private func writeNotices(_ writer: inout FrameWriter) {
        while writer.hasRoomForHeader, let stream = notices.first {
            notices.remove(stream)
            var delta = 0
            if stream.mustSendWindow {
                stream.mustSendWindow = false
                if !stream.hasReceivedFIN { delta = max(0, stream.grantable) }
            }
            // A DATA frame about to go carries SYN or ACK as well.
            guard delta > 0 || ((stream.mustSendSYN || stream.mustSendACK) && !stream.isSendable) else { continue }
            stream.receiveWindow += delta
            writer.write(
                YamuxHeader(
                    .windowUpdate, stream.takeOpeningFlags(), stream: stream.id,
                    length: UInt32(truncatingIfNeeded: delta)))
        }
    }

    private var frameLimit: Int { min(configuration.frameLimit, Self.frameLimit) }

    private func nextReady() -> YamuxStream? {
        ready[0].first ?? ready[1].first ?? ready[2].first
    }

    /// Writes one DATA frame. Returns false when the record ends before it.
    private func writeData(of stream: YamuxStream, _ writer: inout FrameWriter, mayCut: Bool) -> Bool {
        let list = Int(stream.priority.rawValue)
        // A frame may exceed what is left of the stream's turn; the next turn is shorter by that. Cut to fit, it would leave a
        // rest to be copied.
        if stream.deficit <= 0 { stream.deficit += Self.frameLimit }
        var count = min(stream.queue.byteCount, stream.sendWindow, frameLimit)
        if writer.mayDetach { count = stream.queue.frameByteCount(limit: count, large: Self.detachThreshold) }
        let available = writer.remaining - YamuxHeader.byteCount
        if count > available {
            // Whether in this record or the next, the rest of a frame costs a header; so only a record that would
            // otherwise stay empty is cut into.
            guard mayCut, writer.count == 0, available > 0 else { return false }
            count = available
        } else if available < 0 {
            return false
        }
        var flags = stream.takeOpeningFlags()
        if stream.isFinishing, count == stream.queue.byteCount {
            flags.insert(.fin)
            stream.hasSentFIN = true
        }
        writer.write(YamuxHeader(.data, flags, stream: stream.id, length: UInt32(truncatingIfNeeded: count)))
        if writer.mayDetach, count >= Self.detachThreshold, let piece = stream.queue.takePiece(count) {
            writer.end(with: piece)
        } else {
            stream.queue.move(into: writer.take(count))
        }
        queuedTotal -= count
        stream.sendWindow -= count
        stream.deficit -= count

        if stream.isSendable {
            if stream.deficit <= 0 { ready[list].rotate() }
        } else {
            stream.deficit = 0
            ready[list].remove(stream)
        }
        if stream.queue.byteCount <= stream.writableMark {
            stream.writableMark = -1
            if !stream.isFinishing { events.append(.writable(stream.streamID)) }
        }
        if stream.hasSentFIN { closeIfDone(stream) }
        return true
    }
}

/// Writes frames one after the other into one record.
private struct FrameWriter {
    private let room: UnsafeMutableRawBufferPointer
    let mayDetach: Bool
    private(set) var count = 0
    /// A payload that ends the record and was not copied into it.
    private(set) var tail = Bytes()

    init(room: UnsafeMutableRawBufferPointer, mayDetach: Bool) {
        self.room = room
        self.mayDetach = mayDetach
    }

    var isAtEnd: Bool { !tail.isEmpty }
    var remaining: Int { isAtEnd ? 0 : room.count - count }
    var hasRoomForHeader: Bool { remaining >= YamuxHeader.byteCount }

    mutating func write(_ header: YamuxHeader) {
        header.write(to: take(YamuxHeader.byteCount))
    }

    mutating func take(_ size: Int) -> UnsafeMutableRawBufferPointer {
        defer { count += size }
        return UnsafeMutableRawBufferPointer(rebasing: room[count..<count + size])
    }

    mutating func end(with payload: Bytes) {
        count += payload.count
        tail = payload
    }
}
