import MartletConnection
import MartletCore
import MartletIdentity

/// Answers an identify request: writes what this node says of itself and finishes.
final class IdentifyResponder: StreamHandler {
    private let local: LocalPeer
    private let observed: Multiaddr?

    init(local: LocalPeer, observed: Multiaddr?) {
        self.local = local
        self.observed = observed
    }

    func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(local.identifyMessages(observed: observed)))
        stream.finish()
    }

    /// The asker has nothing to say; what it says is dropped, within its window.
    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {}
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}

/// Sends a push: the same messages, on a stream that we open.
final class IdentifyPusher: StreamHandler {
    private let local: LocalPeer

    init(local: LocalPeer) { self.local = local }

    func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(local.identifyMessages(observed: nil)))
        stream.finish()
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) { stream.consumed(bytes.count) }
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}

/// Reads what a peer says of itself, as the answer to our request or as its push.
final class IdentifyReader: StreamHandler {
    private let isPush: Bool
    private var buffer: [UInt8] = []
    private var info = IdentifyInfo()
    private var messageCount = 0
    private var isDone = false

    init(isPush: Bool) { self.isPush = isPush }

    func streamOpened(_ stream: PeerStream) {
        stream.startDeadline()
        if !isPush { stream.finish() }
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        guard !isDone, let peer = stream.connection?.remote?.peerID else { return }
        bytes.withUnsafeBytes { buffer.append(contentsOf: $0) }
        stream.consumed(bytes.count)
        do {
            try takeMessages(from: peer)
        } catch {
            fail(stream, "identify: \(error)")
        }
    }

    private func takeMessages(from peer: PeerID) throws(DecodingError) {
        var position = 0
        defer { buffer.removeFirst(position) }
        while position < buffer.count {
            guard
                case .value(let length, let prefix) = try Varint.decode(
                    buffer.span.bytes.extracting(position..<buffer.count))
            else { return }
            guard length <= UInt64(Identify.messageLimit) else {
                throw .tooLong(field: "identify message", length: length, limit: Identify.messageLimit)
            }
            let start = position + prefix
            let end = start + Int(length)
            guard end <= buffer.count else { return }
            messageCount += 1
            guard messageCount <= Identify.messageCountLimit else {
                throw .tooLong(
                    field: "identify messages", length: UInt64(messageCount), limit: Identify.messageCountLimit)
            }
            try info.merge(Array(buffer[start..<end]), from: peer)
            position = end
        }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        guard !isDone else { return }
        guard buffer.isEmpty, messageCount > 0 else { return fail(stream, "identify: ends within a message") }
        isDone = true
        stream.clearDeadline()
        stream.finish()
        stream.connection?.report(.identified(info, isPush: isPush))
    }

    private func fail(_ stream: PeerStream, _ reason: String) {
        isDone = true
        let connection = stream.connection
        stream.fail(reason)
        connection?.report(.identifyFailed(reason))
    }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        guard !isDone else { return }
        isDone = true
        if !isPush { stream.connection?.report(.identifyFailed("\(reason)")) }
    }
}

extension Identify {
    /// Serves identify and its push.
    public static func register(in table: ProtocolTable) {
        table.register(
            protocolID,
            .init(streamLimit: 2) { IdentifyResponder(local: $0.local, observed: $0.remoteAddress.withoutPeerID) })
        table.register(pushProtocolID, .init(streamLimit: 2) { _ in IdentifyReader(isPush: true) })
    }
}
