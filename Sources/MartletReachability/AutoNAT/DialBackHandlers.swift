public import MartletCore
public import MartletSwarm

/// Says a nonce at an address that was dialed for a peer.
public final class DialBackSender: StreamHandler {
    private let nonce: UInt64
    private var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit, field: "AutoNAT dial-back answer")
    /// Called once: whether the peer took the nonce.
    private var onEnd: ((Bool) -> Void)?

    public init(nonce: UInt64, onEnd: @escaping (Bool) -> Void) {
        self.nonce = nonce
        self.onEnd = onEnd
    }

    public func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(DialBackMessage.encodedNonce(nonce)))
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        var bytes = bytes
        do {
            guard let message = try reader.next(from: &bytes) else { return }
            try DialBackMessage.checkAnswer(message)
            stream.finish()
            end(true)
        } catch {
            stream.fail("AutoNAT: \(error)")
        }
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { end(false) }

    private func end(_ isTaken: Bool) {
        onEnd?(isTaken)
        onEnd = nil
    }
}

/// Takes the nonce of a peer that dials this node because it asked for it, or because it wants to be taken for one.
public final class DialBackReceiver: StreamHandler {
    /// Asks whether this nonce was to come, and calls back on the connection's loop.
    public typealias Check = (_ nonce: UInt64, _ isExpected: @escaping (Bool) -> Void) -> Void

    private let check: Check
    private var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit, field: "AutoNAT dial-back")
    private var isDone = false

    public init(check: @escaping Check) { self.check = check }

    public func streamOpened(_ stream: PeerStream) { stream.startDeadline() }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        guard !isDone else { return }
        var bytes = bytes
        do {
            guard let message = try reader.next(from: &bytes) else { return }
            isDone = true
            check(try DialBackMessage.nonce(message)) { [weak stream] isExpected in
                guard let stream, stream.isOpen else { return }
                guard isExpected else { return stream.fail("AutoNAT: a nonce that nobody was given") }
                stream.send(Bytes(DialBackMessage.encodedAnswer))
                stream.finish()
            }
        } catch {
            stream.fail("AutoNAT: \(error)")
        }
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        if !isDone { stream.fail("AutoNAT: a dial-back without a nonce") }
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { isDone = true }
}
