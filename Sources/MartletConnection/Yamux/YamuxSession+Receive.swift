public import MartletCore

/// The payload of a DATA frame that is being received; it may come in many pieces.
struct IncomingBody {
    var remaining = 0
    /// Whose it is; nil for a stream that is gone, and then it is thrown away.
    var stream: YamuxStream?
    /// Whether the stream ends with it.
    var endsStream = false
}

/// The first bytes of a header whose rest is still to come.
struct PartialHeader {
    var bytes: (UInt64, UInt32) = (0, 0)
    var count = 0
}

extension YamuxSession {
    /// Payloads from this size on are handed up as slices of the received block; smaller ones are copied together, so
    /// that a short message kept for long does not hold a block of 256 KiB.
    private static let sliceThreshold = 4096
    /// The same relative to what was received, so that a slice never holds more than this many times its size.
    private static let sliceRatio = 64
    /// Copied payloads of one record share storage of at most this size: one allocation serves many messages.
    private static let sharedCopyLimit = 4096

    /// Takes the plaintext in `range` of `storage`: whole frames, parts of them, or many.
    ///
    /// Costs, per DATA frame: no allocation from 4 KiB on; below, the part of a shared one of up to 4 KiB.
    public func receive(_ storage: BytesStorage, _ range: Range<Int>, now: Instant) throws(YamuxError) {
        let memory = UnsafeRawBufferPointer(storage.mutableBytes)
        var position = range.lowerBound
        var copies = CopiedPayloads()
        while position < range.upperBound, !hasEnded {
            if body.remaining > 0 {
                let end = position + min(body.remaining, range.upperBound - position)
                takeBody(storage, position..<end, of: range, copies: &copies, now: now)
                position = end
                continue
            }
            if partialHeader.count == 0, range.upperBound - position >= YamuxHeader.byteCount {
                let header = try YamuxHeader(
                    UnsafeRawBufferPointer(rebasing: memory[position..<position + YamuxHeader.byteCount]))
                position += YamuxHeader.byteCount
                try process(header, now: now)
            } else if let header = try completeHeader(memory, at: &position, end: range.upperBound) {
                try process(header, now: now)
            }
        }
    }

    /// Adds to a header that arrives in pieces; returns it when it is whole.
    private func completeHeader(
        _ memory: UnsafeRawBufferPointer, at position: inout Int, end: Int
    ) throws(YamuxError) -> YamuxHeader? {
        let start = partialHeader.count
        let taken = min(YamuxHeader.byteCount - start, end - position)
        let piece = UnsafeRawBufferPointer(rebasing: memory[position..<position + taken])
        position += taken
        partialHeader.count += taken
        withUnsafeMutableBytes(of: &partialHeader.bytes) {
            UnsafeMutableRawBufferPointer(rebasing: $0[start..<start + taken]).copyMemory(from: piece)
        }
        guard partialHeader.count == YamuxHeader.byteCount else { return nil }
        partialHeader.count = 0
        return try withUnsafeBytes(of: partialHeader.bytes) { bytes throws(YamuxError) in
            try YamuxHeader(UnsafeRawBufferPointer(rebasing: bytes[0..<YamuxHeader.byteCount]))
        }
    }

    private func takeBody(
        _ storage: BytesStorage, _ range: Range<Int>, of all: Range<Int>, copies: inout CopiedPayloads, now: Instant
    ) {
        body.remaining -= range.count
        if let stream = body.stream, !stream.isForgotten {
            let threshold = max(Self.sliceThreshold, all.count / Self.sliceRatio)
            let bytes =
                range.count >= threshold
                ? storage.slice(range)
                : copies.copy(storage, range, capacity: min(Self.sharedCopyLimit, all.upperBound - range.lowerBound))
            events.append(.data(stream.streamID, bytes))
        }
        guard body.remaining == 0 else { return }
        let ended = body.endsStream ? body.stream : nil
        body = IncomingBody()
        if let ended, !ended.isForgotten { remoteFinished(ended) }
    }

    private func process(_ header: YamuxHeader, now: Instant) throws(YamuxError) {
        switch header.kind {
        case .data: try processData(header, now: now)
        case .windowUpdate: try processWindowUpdate(header, now: now)
        case .ping: try processPing(header, now: now)
        case .goAway: processGoAway(header)
        }
    }

    private func processData(_ header: YamuxHeader, now: Instant) throws(YamuxError) {
        let length = Int(header.length)
        body.remaining = length
        guard let stream = try addressee(of: header, now: now) else {
            try discard(length)
            return
        }
        if header.flags.contains(.rst) {
            remoteReset(stream)
            try discard(length)
            return
        }
        if length > 0 {
            if stream.hasReceivedFIN {
                // Data after the end: an error of this stream alone.
                try answer(YamuxHeader(.windowUpdate, .rst, stream: stream.id, length: 0))
                remoteReset(stream)
                try discard(length)
                return
            }
            guard length <= stream.receiveWindow else {
                throw .windowExceeded(stream: stream.id, length: header.length, window: stream.receiveWindow)
            }
            if stream.epoch == nil { stream.epoch = now }
            // Counted when announced, not when it arrives: what is still to come must not be granted again.
            stream.receiveWindow -= length
            stream.unconsumed += length
            body.stream = stream
            body.endsStream = header.flags.contains(.fin)
        } else if header.flags.contains(.fin) {
            remoteFinished(stream)
        }
    }

    private func processWindowUpdate(_ header: YamuxHeader, now: Instant) throws(YamuxError) {
        guard let stream = try addressee(of: header, now: now) else { return }
        if header.flags.contains(.rst) {
            // Length may hold an error code here (go-yamux v5, libp2p/specs PR 622); it is not a window.
            remoteReset(stream)
            return
        }
        // An update may well come after FIN: it concerns the other direction.
        let window = stream.sendWindow + Int(header.length)
        guard window <= Int(UInt32.max) else { throw .windowOverflow(stream: stream.id) }
        stream.sendWindow = window
        if stream.isSendable { ready[Int(stream.priority.rawValue)].append(stream) }
        if header.flags.contains(.fin) { remoteFinished(stream) }
    }

    private func processPing(_ header: YamuxHeader, now: Instant) throws(YamuxError) {
        if header.flags.contains(.syn) {
            try answer(YamuxHeader(.ping, .ack, stream: 0, length: header.length))
        } else if header.flags.contains(.ack), let time = liveness.pingAnswered(header.length, now: now) {
            events.append(.roundTrip(time))
        }
    }

    private func processGoAway(_ header: YamuxHeader) {
        let code = GoAwayCode(rawValue: header.length)
        if code == .normal, !streams.isEmpty {
            remoteIsLeaving = true
        } else {
            conclude(.goneAway(code))
        }
    }

    /// The stream that a DATA or WINDOW_UPDATE frame is for, which SYN may just have opened; nil when it is gone or
    /// refused.
    private func addressee(of header: YamuxHeader, now: Instant) throws(YamuxError) -> YamuxStream? {
        let id = header.streamID
        guard id != 0 else { throw .wrongStreamID(id) }
        if header.flags.contains(.syn) { return try opened(id, now: now) }
        guard let stream = stream(id) else {
            if isOwn(id), UInt64(id) >= nextID, !header.flags.contains(.rst) { throw .neverOpened(id) }
            return nil
        }
        if stream.isOutbound, !stream.isAcknowledged {
            // ACK is on the first frame of the peer; should one forget it, the frame itself says as much.
            stream.isAcknowledged = true
            unacknowledgedCount -= 1
        }
        return stream
    }

    private func opened(_ id: UInt32, now: Instant) throws(YamuxError) -> YamuxStream? {
        guard !isOwn(id) else { throw .idOfOtherSide(id) }
        guard stream(id) == nil else { throw .alreadyOpen(id) }
        guard inboundCount < configuration.maximumStreams, closingUntil == nil else {
            try answer(YamuxHeader(.windowUpdate, .rst, stream: id, length: 0))
            allowStrays(configuration.initialWindow)
            return nil
        }
        let stream = YamuxStream(id: id, isOutbound: false, window: configuration.initialWindow)
        stream.mustSendACK = true
        add(stream)
        events.append(.inboundStream(stream.streamID))
        return stream
    }

    private func isOwn(_ id: UInt32) -> Bool { (id & 1 == 1) == (role == .dialer) }

    private func remoteFinished(_ stream: YamuxStream) {
        guard !stream.hasReceivedFIN else { return }
        stream.hasReceivedFIN = true
        events.append(.remoteFinished(stream.streamID))
        closeIfDone(stream)
    }

    private func remoteReset(_ stream: YamuxStream) {
        forget(stream)
        events.append(.streamReset(stream.streamID))
    }

    func closeIfDone(_ stream: YamuxStream) {
        guard stream.hasSentFIN, stream.hasReceivedFIN else { return }
        events.append(.streamClosed(stream.streamID))
        forget(stream)
    }

    /// Lets `length` bytes of payload pass unused.
    private func discard(_ length: Int) throws(YamuxError) {
        body.stream = nil
        body.endsStream = false
        guard length <= strayAllowance else { throw .tooMuchStrayData(limit: strayAllowance) }
        strayAllowance -= length
    }

    /// Queues what the peer has caused; it is sent ahead of all data.
    private func answer(_ header: YamuxHeader) throws(YamuxError) {
        guard answers.count < configuration.maximumQueuedControlFrames else {
            throw .tooManyQueuedControlFrames(limit: configuration.maximumQueuedControlFrames)
        }
        answers.append(header)
    }
}

/// Storage that the small payloads of one record share.
private struct CopiedPayloads {
    private var storage: BytesStorage?
    private var used = 0

    mutating func copy(_ source: BytesStorage, _ range: Range<Int>, capacity: Int) -> Bytes {
        let target: BytesStorage
        if let storage, storage.capacity - used >= range.count {
            target = storage
        } else {
            target = BytesStorage(capacity: max(capacity, range.count))
            storage = target
            used = 0
        }
        let start = used
        used += range.count
        UnsafeMutableRawBufferPointer(rebasing: target.mutableBytes[start..<used])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source.mutableBytes[range]))
        return target.slice(start..<used)
    }
}
