import DequeModule
public import MartletCore
public import MartletIdentity

/// Yamux over Noise over a byte stream such as TCP: the whole upgrade and then the muxer, as one sans-I/O machine.
///
///     let connection = SecureConnection(
///         role: .dialer, identity: noiseIdentity, expectedPeer: peer, configuration: ConnectionConfiguration(),
///         budget: budget, random: random.split(), now: loop.now)
///
/// Received bytes are decrypted where they stand and parsed there; sent bytes are encrypted from where they
/// are queued into the transmit buffer (small ones are copied there first). An idle connection holds no buffer and no cipher context.
///
/// After `.closed` there may be one last thing to transmit, which tells the peer why.
///
/// Specification: libp2p/specs `noise/README.md`, `yamux/README.md`, `connections/README.md`.
public final class SecureConnection: ByteStreamConnection {
    /// What a record of one frame has beside the frame's payload: its length and tag, and the frame's header.
    public static let recordOverhead = lengthByteCount + RecordCipher.tagByteCount + YamuxHeader.byteCount
    /// A record's length in front of it.
    private static let lengthByteCount = 2
    /// The smallest record worth starting: a frame of one byte.
    private static let smallestRecord = lengthByteCount + YamuxHeader.byteCount + 1 + RecordCipher.tagByteCount
    /// Unfinished records up to this size are copied at once, so that they do not keep a whole block from being reused;
    /// larger ones when the connection comes to rest.
    private static let compactLimit = 4096
    /// After how long without traffic what only traffic needs is given back.
    private static let restDelay = Duration.seconds(1)

    public let role: ConnectionRole
    /// Who is at the other end; nil during the handshake.
    @exclusivity(unchecked) public private(set) var remote: RemoteIdentity?
    @exclusivity(unchecked) public private(set) var leftover = Bytes()

    // As in `YamuxSession`, access is not checked for overlap at run time: confined to a loop, and no foreign code called.
    private let session: YamuxSession
    @exclusivity(unchecked) private var upgrade: ConnectionUpgrade?
    @exclusivity(unchecked) private var muxerNegotiation: Negotiation?
    /// Negotiation lines to be sent as a record of their own.
    @exclusivity(unchecked) private var negotiationOutput: [UInt8] = []
    @exclusivity(unchecked) private var sending: RecordCipher?
    @exclusivity(unchecked) private var receiving: RecordCipher?
    @exclusivity(unchecked) private var isClosed = false
    private let handshakeDeadline: Instant
    @exclusivity(unchecked) private var restDeadline: Instant?

    /// - Parameters:
    ///   - role: what the sides agreed on; under a hole punch not always who dialled.
    ///   - expectedPeer: who must be at the other end; nil for anyone.
    ///   - budget: shared by the connections of a node; nil for no limit beyond the connection's own.
    ///   - random: the source of the handshake's ephemeral key and of ping values.
    public init(
        role: ConnectionRole, identity: NoiseIdentity, expectedPeer: PeerID?, configuration: ConnectionConfiguration,
        budget: WindowBudget?, random: RandomSource, now: Instant
    ) {
        var random = random
        self.role = role
        upgrade = ConnectionUpgrade(
            role: role, identity: identity, expectedPeer: expectedPeer, cipher: configuration.cipher, random: &random)
        session = YamuxSession(
            role: role, configuration: configuration, budget: budget, random: random, now: now)
        handshakeDeadline = now + configuration.handshakeTimeout
    }

    /// A connection with a Noise key of its own. A node with many connections makes one `NoiseIdentity` for all.
    public convenience init(
        role: ConnectionRole, identity: KeyPair, expectedPeer: PeerID?, configuration: ConnectionConfiguration,
        budget: WindowBudget?, random: RandomSource, now: Instant
    ) {
        var random = random
        self.init(
            role: role, identity: NoiseIdentity(identity: identity, random: &random), expectedPeer: expectedPeer,
            configuration: configuration, budget: budget, random: random, now: now)
    }

    public var phase: ConnectionPhase {
        if let upgrade { return upgrade.phase }
        return muxerNegotiation == nil ? .established : .negotiatingMuxer
    }

    private var isEstablished: Bool { upgrade == nil && muxerNegotiation == nil }

    /// The smoothed time to the peer and back; nil before the first measurement.
    public var roundTrip: Duration? { session.roundTrip }

    // MARK: Input

    public func receive(_ region: ReceivedRegion, now: Instant) {
        leftover = Bytes()
        guard !isClosed, region.count > 0 else { return }
        session.receivedAnything(now: now)
        var position = 0
        do throws(ConnectionCloseReason) {
            if let upgrade { try advance(upgrade, region, at: &position, now: now) }
            if upgrade == nil { try openRecords(of: region, at: &position, now: now) }
        } catch {
            end(error)
        }
        if !isClosed, !session.hasEnded, position < region.count {
            let rest = region.slice(position..<region.count)
            leftover = rest.count <= Self.compactLimit ? rest.compacted() : rest
        }
        noteTraffic(now: now)
        settle()
    }

    private func advance(
        _ upgrade: ConnectionUpgrade, _ region: ReceivedRegion, at position: inout Int, now: Instant
    ) throws(ConnectionCloseReason) {
        let result: ConnectionUpgrade.Result?
        do {
            result = try upgrade.receive(UnsafeRawBufferPointer(region.mutableBytes), at: &position)
        } catch {
            throw .handshakeFailed(error)
        }
        guard let result else { return }
        sending = result.sending
        receiving = result.receiving
        remote = RemoteIdentity(
            peerID: result.peerID, publicKey: result.publicKey, muxer: YamuxSession.protocolID,
            earlyMuxer: result.hasMuxer)
        handshakeOutput = upgrade.output
        self.upgrade = nil
        if result.hasMuxer {
            establish(now: now)
        } else {
            var negotiation = Negotiation(role: role, protocolID: YamuxSession.protocolID)
            negotiationOutput = negotiation.takeOutput()
            muxerNegotiation = negotiation
        }
    }

    private func establish(now: Instant) {
        guard let remote else { preconditionFailure("established without a peer") }
        session.begin(now: now)
        session.events.append(.established(remote))
    }

    private func openRecords(
        of region: ReceivedRegion, at position: inout Int, now: Instant
    ) throws(ConnectionCloseReason) {
        guard let receiving else { preconditionFailure("records before there is a key") }
        let memory = region.mutableBytes
        while memory.count - position >= Self.lengthByteCount, !session.hasEnded {
            let size = Int(memory[position]) << 8 | Int(memory[position + 1])
            let start = position + Self.lengthByteCount
            // Said at once, without waiting for the rest of what can never be a record.
            guard size >= RecordCipher.tagByteCount else { throw .recordFailed(.tooShort(size)) }
            guard memory.count - start >= size else { break }
            do {
                try receiving.open(UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + size]))
            } catch {
                throw .recordFailed(error)
            }
            position = start + size
            let plaintext = start..<position - RecordCipher.tagByteCount
            let range = region.range.lowerBound + plaintext.lowerBound..<region.range.lowerBound + plaintext.upperBound
            try take(region.storage, range, now: now)
        }
    }

    private func take(_ storage: BytesStorage, _ range: Range<Int>, now: Instant) throws(ConnectionCloseReason) {
        var range = range
        if muxerNegotiation != nil {
            let bytes = UnsafeRawBufferPointer(rebasing: storage.mutableBytes[range])
            range = try negotiateMuxer(bytes, now: now) + range.lowerBound..<range.upperBound
            if range.isEmpty { return }
        }
        do {
            try session.receive(storage, range, now: now)
        } catch {
            throw .muxerViolation(error)
        }
    }

    /// Returns how many bytes belonged to the negotiation.
    private func negotiateMuxer(_ bytes: UnsafeRawBufferPointer, now: Instant) throws(ConnectionCloseReason) -> Int {
        guard var negotiation = muxerNegotiation else { return 0 }
        do {
            let progress = try negotiation.receive(bytes)
            negotiationOutput += negotiation.takeOutput()
            muxerNegotiation = progress.agreed == nil ? negotiation : nil
            if progress.agreed != nil { establish(now: now) }
            return progress.consumed
        } catch {
            throw .handshakeFailed(error)
        }
    }

    public func transportClosed(_ reason: TransportEnd, now: Instant) {
        guard !isClosed else { return }
        switch reason {
        case .endOfFile where session.remoteIsLeaving: end(.goneAway(.normal))
        case .endOfFile: end(.closedByPeer(phase))
        case .failed(let text): end(.transportFailed(text))
        }
        settle()
    }

    // MARK: Output

    /// What the upgrade left to be sent when it was done.
    @exclusivity(unchecked) private var handshakeOutput: [UInt8] = []

    public var hasPendingTransmit: Bool {
        if let upgrade { return !isClosed && !upgrade.output.isEmpty }
        if !handshakeOutput.isEmpty || !negotiationOutput.isEmpty { return !isClosed || session.pendingGoAway != nil }
        return sending != nil && isEstablished && session.hasPendingTransmit
    }

    public func transmit(into buffer: inout TransmitBuffer, now: Instant) {
        guard hasPendingTransmit else { return }
        if let upgrade {
            Self.move(&upgrade.output, into: &buffer)
            return
        }
        guard Self.move(&handshakeOutput, into: &buffer), let sending else { return }
        do {
            if !negotiationOutput.isEmpty {
                let output = negotiationOutput
                let sent = try appendRecord(to: &buffer, limit: output.count, sealedBy: sending) { room, _ in
                    guard room.count >= output.count else { return 0 }
                    room.copyBytes(from: output)
                    return output.count
                }
                guard sent else { return }
                negotiationOutput = []
            }
            guard isEstablished else { return }
            var isMore = true
            while isMore {
                // Into a buffer that holds something already, no frame is squeezed: it goes whole into the next.
                let mayCut = buffer.count == 0
                isMore = try appendRecord(
                    to: &buffer, limit: YamuxSession.recordLimit, sealedBy: sending,
                    filledBy: { session.fill($0, mayCut: mayCut, detaching: true, tail: &$1, now: now) })
            }
        } catch {
            end(.recordFailed(error))
        }
        noteTraffic(now: now)
        settle()
    }

    /// Appends one record with what `fill` writes. Returns false when there was nothing to write or no room.
    @inline(__always)
    private func appendRecord(
        to buffer: inout TransmitBuffer, limit: Int, sealedBy cipher: RecordCipher,
        filledBy fill: (UnsafeMutableRawBufferPointer, inout Bytes) -> Int
    ) throws(RecordError) -> Bool {
        let overhead = Self.lengthByteCount + RecordCipher.tagByteCount
        guard buffer.remaining >= Self.smallestRecord else { return false }
        let room = buffer.reserve(min(buffer.remaining, limit + overhead))
        var tail = Bytes()
        let plaintext = Self.lengthByteCount..<room.count - RecordCipher.tagByteCount
        let written = fill(UnsafeMutableRawBufferPointer(rebasing: room[plaintext]), &tail)
        guard written > 0 else { return false }
        let size = written + RecordCipher.tagByteCount
        room[0] = UInt8(truncatingIfNeeded: size >> 8)
        room[1] = UInt8(truncatingIfNeeded: size)
        try cipher.seal(
            UnsafeMutableRawBufferPointer(rebasing: room[Self.lengthByteCount..<Self.lengthByteCount + size]),
            tail: tail)
        buffer.commit(Self.lengthByteCount + size)
        return true
    }

    /// Moves as much as there is room for; handshake bytes have no records. Returns whether `bytes` is empty now.
    @discardableResult
    private static func move(_ bytes: inout [UInt8], into buffer: inout TransmitBuffer) -> Bool {
        let count = min(bytes.count, buffer.remaining)
        guard count > 0 else { return bytes.isEmpty }
        bytes.withUnsafeBytes { buffer.append(UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
        bytes.removeFirst(count)
        return bytes.isEmpty
    }

    // MARK: Time

    public var deadline: Instant? {
        if isClosed { return nil }
        if !isEstablished { return handshakeDeadline }
        guard let restDeadline else { return session.deadline }
        return min(restDeadline, session.deadline ?? restDeadline)
    }

    public func handleTimeout(now: Instant) {
        guard !isClosed else { return }
        if !isEstablished {
            if now >= handshakeDeadline {
                end(.handshakeTimedOut(phase, after: session.configuration.handshakeTimeout))
            }
        } else {
            session.handleTimeout(now: now)
        }
        if let restDeadline, now >= restDeadline { rest() }
        settle()
    }

    private func noteTraffic(now: Instant) {
        if holdsContexts || leftover.count > Self.compactLimit { restDeadline = now + Self.restDelay }
    }

    /// Whether memory is held that a rest gives back.
    var holdsContexts: Bool { sending?.holdsContext == true || receiving?.holdsContext == true }

    /// Gives back what only traffic needs.
    private func rest() {
        restDeadline = nil
        sending?.releaseContext()
        receiving?.releaseContext()
        leftover = leftover.compacted()
        session.trim()
    }

    // MARK: End

    private func end(_ reason: ConnectionCloseReason) {
        guard !session.hasEnded else { return }
        if case .muxerViolation = reason {
            session.end(reason, telling: .protocolError)
        } else {
            session.end(reason, telling: nil)
        }
    }

    /// Reports the end of the session, once.
    private func settle() {
        guard session.hasEnded, !isClosed, let outcome = session.outcome else { return }
        isClosed = true
        session.dropStreams()
        session.events.append(.closed(outcome))
        upgrade = nil
        receiving = nil
        leftover = Bytes()
    }

    public func close(now: Instant) {
        guard !isClosed else { return }
        if isEstablished {
            session.close(now: now)
        } else {
            end(.closedLocally)
        }
        settle()
    }
}

// MARK: - Streams

extension SecureConnection {
    public func nextEvent() -> ConnectionEvent? { session.nextEvent() }

    public var streamCount: Int { session.streamCount }

    public func openStream(now: Instant) throws(StreamOpenError) -> StreamID {
        guard isEstablished || isClosed else { throw .notEstablished }
        return try session.openStream(now: now)
    }

    public func send(_ bytes: Bytes, on stream: StreamID) { session.send(bytes, on: stream) }
    public func queuedByteCount(on stream: StreamID) -> Int { session.queuedByteCount(on: stream) }
    public func finish(_ stream: StreamID) { session.finish(stream) }
    public func reset(_ stream: StreamID) { session.reset(stream) }
    public func setPriority(_ priority: StreamPriority, of stream: StreamID) {
        session.setPriority(priority, of: stream)
    }

    public func notifyWritable(atOrBelow byteCount: Int, on stream: StreamID) {
        session.notifyWritable(atOrBelow: byteCount, on: stream)
    }

    public func limitWindow(to byteCount: Int, on stream: StreamID) {
        session.limitWindow(to: byteCount, on: stream)
    }

    public func setKeepAlive(_ keepAlive: KeepAlive?, now: Instant) { session.setKeepAlive(keepAlive, now: now) }

    public func probe(now: Instant) {
        if isEstablished, !isClosed { session.probe(now: now) }
    }

    public func consumed(_ count: Int, on stream: StreamID, now: Instant) {
        session.consumed(count, on: stream, now: now)
    }
}
