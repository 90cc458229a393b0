import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Answers a relay that has somebody for us, on a stop stream that it opened.
///
/// Who decides may take its time: the request waits until `accept` or `refuse`.
public final class CircuitAcceptor: StreamHandler {
    /// Bytes that a relay may send before we have answered. By the protocol there are none.
    static let earlyByteLimit = 4096

    /// Somebody who wants to connect.
    public struct Request: Sendable {
        public let peer: PeerID
        public let limit: ConnectionLimit?
    }

    private var reader = PrefixedMessageReader.circuit()
    private var stream: PeerStream?
    private var early: [UInt8] = []
    private var isAsked = false
    private let onRequest: (CircuitAcceptor, Request) -> Void

    /// - Parameter onRequest: called at most once, on the loop of the connection to the relay.
    public init(onRequest: @escaping (CircuitAcceptor, Request) -> Void) {
        self.onRequest = onRequest
    }

    public func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        stream.startDeadline()
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        var rest = bytes
        if !isAsked {
            do {
                guard let message = try reader.next(from: &rest) else { return stream.consumed(bytes.count) }
                guard case .connect(let peer, let limit) = try StopMessage(message) else {
                    return refuse(.unexpectedMessage)
                }
                isAsked = true
                early += rest.array
                onRequest(self, Request(peer: peer, limit: limit))
            } catch {
                refuse(.malformedMessage)
            }
        } else {
            early += rest.array
            if early.count > Self.earlyByteLimit { stream.fail("a relay that does not wait for the answer") }
        }
    }

    /// Takes the connection: tells the relay so and returns the stream, with what was already read of the connection; the
    /// caller hands it over to its next handler. Nil when the relay is gone.
    public func accept() -> (stream: PeerStream, rest: Bytes)? {
        guard let stream, stream.isOpen else { return nil }
        stream.clearDeadline()
        stream.send(Bytes(StopMessage.status(.ok).encoded))
        self.stream = nil
        return (stream, Bytes(early))
    }

    /// Sends the caller away.
    public func refuse(_ status: CircuitStatus) {
        guard let stream, stream.isOpen else { return }
        isAsked = true
        // The deadline stays: a relay that does not end its side is reset then.
        stream.send(Bytes(StopMessage.status(status).encoded))
        stream.finish()
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { self.stream = nil }
}
