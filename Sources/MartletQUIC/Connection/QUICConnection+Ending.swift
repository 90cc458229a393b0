import CNgtcp2
public import MartletConnection
public import MartletCore

extension QUICConnection {
    /// The longest packet that ends a connection.
    private static let finalLimit = 1452

    /// Refuses a connection that was only just accepted.
    public func refuse(now: Instant) {
        guard !isClosed else { return }
        self.now = now
        end(.closedLocally, telling: 0)
    }

    public func transportClosed(_ reason: TransportEnd, now: Instant) {
        guard !isClosed else { return }
        self.now = now
        switch reason {
        case .endOfFile: end(.closedByPeer(phase), telling: nil)
        case .failed(let text): end(.transportFailed(text), telling: nil)
        }
    }

    public func close(now: Instant) {
        guard !isClosed, closeDeadline == nil else { return }
        self.now = now
        guard remote != nil else { return end(.closedLocally, telling: 0) }
        closeDeadline = now + configuration.closeTimeout
        mayTransmit = true
    }

    var phase: ConnectionPhase { remote == nil ? .securing : .established }

    /// Ends a connection that is being closed, once the peer has all that was queued.
    func finishClosing() {
        guard closeDeadline != nil, !isClosed else { return }
        for stream in streams.values {
            if stream.isForgotten { return }
            if stream.queue.unsentCount > 0 || stream.queue.unacknowledgedCount > 0 { return }
            if stream.isFinishing, !stream.hasSentEnd { return }
        }
        endOrderly()
    }

    func endOrderly() { end(.closedLocally, telling: 0) }

    /// The library refused to go on.
    func failed(_ code: CInt) {
        guard let handle, !isClosed else { return }
        switch code {
        case mq_error_draining:
            end(peerReason(handle), telling: nil)
        case mq_error_idle:
            end(.unresponsive(now - lastReceived), telling: nil)
        case mq_error_handshake_timeout:
            end(.handshakeTimedOut(.securing, after: configuration.handshakeTimeout), telling: nil)
        case mq_error_drop, mq_error_closing:
            end(.handshakeFailed(.quic("the packet begins no connection")), telling: nil)
        default:
            let text = String(cString: mq_error_text(code))
            let reason: ConnectionCloseReason =
                if let refusal {
                    .handshakeFailed(refusal)
                } else if code == mq_error_crypto {
                    .handshakeFailed(.tlsAlert(mq_error_code(handle, code) & 0xFF, sentByPeer: false))
                } else {
                    .quicViolation(mq_error_code(handle, code), text)
                }
            // A refusal inside the handshake is told as the TLS alert that it is.
            end(reason, telling: code)
        }
    }

    /// What the peer said when it ended the connection.
    private func peerReason(_ handle: OpaquePointer) -> ConnectionCloseReason {
        var code: UInt64 = 0
        switch mq_peer_end(handle, &code) {
        case MQ_END_APPLICATION: return .goneAway(GoAwayCode(rawValue: UInt32(clamping: code)))
        case MQ_END_TRANSPORT where code >> 8 == 1:
            return .handshakeFailed(.tlsAlert(code & 0xFF, sentByPeer: true))
        case MQ_END_TRANSPORT where code != 0: return .refusedByPeer(code)
        case MQ_END_TRANSPORT: return .closedByPeer(phase)
        default: return .transportFailed("the peer does not know the connection any more")
        }
    }

    /// Ends everything. `code` is what made it necessary, 0 for a farewell, nil to say nothing to the peer.
    func end(_ reason: ConnectionCloseReason, telling code: CInt?) {
        guard let handle, !isClosed else { return }
        flushRun()
        isClosed = true
        isHandshaking = false
        if let code {
            let time = now.unsigned
            finalDatagram = withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Self.finalLimit) { room in
                guard let base = room.baseAddress else { return Bytes() }
                let count = mq_write_close(handle, base, room.count, code, 0, time)
                return Bytes(copying: UnsafeRawBufferPointer(start: base, count: count))
            }
        }
        streams = [:]
        scheduler.removeAll()
        lastStream = nil
        liveCount = 0
        closeDeadline = nil
        mayTransmit = false
        events.append(.closed(reason))
        endpoint?.ended(self)
        self.handle = nil
        mq_free(handle)
    }
}
