public import MartletCore

/// The consumer of one stream of a connection. Called on the connection's loop, never from inside a call that it makes.
///
/// Order of calls: `streamOpened`, then any number of the middle ones, then `streamClosed` exactly once. When the stream
/// never opens (the peer does not speak the protocol), only `streamClosed` comes.
///
/// Received bytes count against the peer's window until the handler calls `PeerStream.consumed`.
public protocol StreamHandler: AnyObject {
    /// Both sides agreed on `stream.protocolID`.
    func streamOpened(_ stream: PeerStream)
    func streamReceived(_ bytes: Bytes, on stream: PeerStream)
    /// The peer sends nothing more; we still may.
    func streamRemoteFinished(_ stream: PeerStream)
    /// The send queue fell below its low-water mark after having been above its high-water mark.
    func streamWritable(_ stream: PeerStream)
    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason)
}

extension StreamHandler {
    public func streamOpened(_ stream: PeerStream) {}
    public func streamRemoteFinished(_ stream: PeerStream) {}
    public func streamWritable(_ stream: PeerStream) {}
}

/// Why a stream is over.
public enum StreamCloseReason: Error, Hashable, Sendable, CustomStringConvertible {
    /// Both sides finished.
    case finished
    /// The peer reset it.
    case resetByPeer
    /// We reset it.
    case resetLocally
    /// The peer speaks none of the protocols proposed.
    case protocolNotSupported([String])
    /// The peer did not agree on a protocol in time.
    case negotiationTimedOut
    /// The peer broke the rules of the protocol negotiation or of the protocol.
    case protocolViolation(String)
    /// The connection under it ended.
    case connectionClosed(String)

    public var description: String {
        switch self {
        case .finished: "finished by both sides"
        case .resetByPeer: "reset by the peer"
        case .resetLocally: "reset on this side"
        case .protocolNotSupported(let ids): "the peer speaks none of \(ids.joined(separator: ", "))"
        case .negotiationTimedOut: "the peer did not agree on a protocol in time"
        case .protocolViolation(let what): "protocol violation: \(what)"
        case .connectionClosed(let why): "connection closed: \(why)"
        }
    }
}
