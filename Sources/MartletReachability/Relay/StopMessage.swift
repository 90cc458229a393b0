public import MartletCore
public import MartletIdentity
public import MartletSwarm
import SwiftProtobuf

/// What a relay and the peer that it connects somebody to say to each other.
public enum StopMessage: Hashable, Sendable {
    /// This peer wants to connect; the limits are those of the connection.
    case connect(from: PeerID, limit: ConnectionLimit? = nil)
    /// The answer. After `.ok` the stream is the connection to that peer.
    case status(CircuitStatus)

    /// Reads a message; its length prefix was taken off.
    public init(_ message: [UInt8]) throws(DecodingError) {
        let decoded: StopMessageProtobuf
        do {
            decoded = try StopMessageProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "stop message", reason: "not a valid protobuf")
        }
        guard decoded.hasType else {
            throw .invalid(field: "stop message", reason: "names no type, or one unknown here")
        }
        switch decoded.type {
        case .connect:
            self = .connect(
                from: try PeerID(decoded.hasPeer ? decoded.peer : nil, in: "stop message"),
                limit: decoded.hasLimit ? ConnectionLimit(decoded.limit) : nil)
        case .status:
            guard decoded.hasStatus else { throw .invalid(field: "stop message", reason: "a status without a value") }
            self = .status(CircuitStatus(rawValue: decoded.status))
        }
    }

    /// The message with its length in front, as it is sent.
    public var encoded: [UInt8] {
        var message = StopMessageProtobuf()
        switch self {
        case .connect(let peer, let limit):
            message.type = .connect
            message.peer = CircuitPeerProtobuf(peer)
            if let limit { message.limit = CircuitLimitProtobuf(limit) }
        case .status(let status):
            message.type = .status
            message.status = status.rawValue
        }
        return lengthPrefixed(message)
    }
}
