import MartletConnection
public import MartletCore
public import MartletSwarm

/// Asks a relay for a reservation, on a hop stream that we opened.
public final class ReservationRequest: StreamHandler {
    public enum Outcome: Hashable, Sendable {
        case reserved(CircuitReservation, limit: ConnectionLimit?)
        /// The relay said no.
        case refused(CircuitStatus)
        /// There was no answer that can be read.
        case failed(String)
    }

    private var reader = PrefixedMessageReader.circuit()
    private var onOutcome: ((Outcome) -> Void)?

    /// - Parameter onOutcome: called once, on the loop of the connection to the relay.
    public init(onOutcome: @escaping (Outcome) -> Void) {
        self.onOutcome = onOutcome
    }

    public func streamOpened(_ stream: PeerStream) {
        stream.startDeadline()
        stream.send(Bytes(HopMessage.reserve.encoded))
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        guard onOutcome != nil else { return }
        stream.consumed(bytes.count)
        var rest = bytes
        do {
            guard let message = try reader.next(from: &rest) else { return }
            end(try outcome(of: HopMessage(message)))
            // The deadline stays: a relay that does not end its side is reset then.
            stream.finish()
        } catch {
            end(.failed("the relay's answer cannot be read: \(error)"))
            stream.reset()
        }
    }

    private func outcome(of message: HopMessage) throws(DecodingError) -> Outcome {
        guard case .status(let status, let reservation, let limit) = message else {
            throw .invalid(field: "hop message", reason: "not a status")
        }
        guard status == .ok else { return .refused(status) }
        guard let reservation else {
            throw .invalid(field: "hop message", reason: "agrees to a reservation without saying for how long")
        }
        return .reserved(reservation, limit: limit)
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        end(.failed("the relay ended the stream without an answer"))
        stream.finish()
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        end(.failed("\(reason)"))
    }

    private func end(_ outcome: Outcome) {
        guard let onOutcome else { return }
        self.onOutcome = nil
        onOutcome(outcome)
    }
}
