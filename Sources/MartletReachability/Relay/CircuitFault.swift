public import MartletConnection
public import MartletCore
public import MartletSwarm

/// Why a relay did not connect us to a peer.
public enum CircuitFault: Error, Hashable, Sendable, CustomStringConvertible {
    case refused(CircuitStatus)
    case unreadable(DecodingError)
    /// The relay ended the stream and had not answered.
    case noAnswer
    case streamClosed(StreamCloseReason)
    case noStream(StreamOpenError)

    /// Whether the relay may do better when it is asked again: it failed, or lost one of the two connections. What it refuses by
    /// its books or its rules it will refuse again, and where it was silent for as long as a dial waits, it will be again.
    public var mayPass: Bool {
        switch self {
        case .refused(let status): status == .connectionFailed
        case .streamClosed(.resetByPeer), .streamClosed(.connectionClosed): true
        case .noStream(let reason): reason != .idsExhausted
        case .unreadable, .noAnswer, .streamClosed: false
        }
    }

    public var description: String {
        switch self {
        case .refused(let status): "the relay answered \(status)"
        case .unreadable(let error): "the relay's answer cannot be read: \(error)"
        case .noAnswer: "the relay ended the stream without an answer"
        case .streamClosed(let reason): "the stream to the relay: \(reason)"
        case .noStream(let reason): "no stream to the relay: \(reason)"
        }
    }
}
