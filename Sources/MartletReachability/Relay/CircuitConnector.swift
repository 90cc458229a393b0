import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// Asks a relay, on a hop stream that we opened, to connect us to a peer.
///
/// When the relay agrees, the stream is handed on with what was already read of the connection, and this object is done.
public final class CircuitConnector: StreamHandler {
    public enum Outcome {
        /// The stream leads to the peer. `rest` are bytes of the peer that came with the relay's answer.
        case connected(PeerStream, rest: Bytes, limit: ConnectionLimit?)
        case failed(CircuitFault)
    }

    private let target: PeerID
    private var reader = PrefixedMessageReader.circuit()
    private var onOutcome: ((Outcome) -> Void)?

    /// - Parameter onOutcome: called once, on the loop of the connection to the relay. With `.connected` it hands the stream
    ///   over to its next handler.
    public init(to target: PeerID, onOutcome: @escaping (Outcome) -> Void) {
        self.target = target
        self.onOutcome = onOutcome
    }

    public func streamOpened(_ stream: PeerStream) {
        stream.startDeadline()
        stream.send(Bytes(HopMessage.connect(to: target).encoded))
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        var rest = bytes
        do {
            let message = try reader.next(from: &rest)
            stream.consumed(bytes.count - rest.count)
            if let message { try received(HopMessage(message), rest, on: stream) }
        } catch {
            end(.failed(.unreadable(error)), resetting: stream)
        }
    }

    private func received(_ message: HopMessage, _ rest: Bytes, on stream: PeerStream) throws(DecodingError) {
        guard case .status(let status, _, let limit) = message else {
            throw .invalid(field: "hop message", reason: "not a status")
        }
        guard status == .ok else {
            return end(.failed(.refused(status)), resetting: stream)
        }
        stream.clearDeadline()
        end(.connected(stream, rest: rest, limit: limit), resetting: nil)
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        end(.failed(.noAnswer), resetting: stream)
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        end(.failed(.streamClosed(reason)), resetting: nil)
    }

    private func end(_ outcome: Outcome, resetting stream: PeerStream?) {
        guard let onOutcome else { return }
        self.onOutcome = nil
        stream?.reset()
        onOutcome(outcome)
    }
}
