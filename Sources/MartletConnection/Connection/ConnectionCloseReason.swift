public import MartletIdentity

/// Why a connection ended, and who ended it.
public enum ConnectionCloseReason: Error, Hashable, Sendable {
    /// `close` was called here.
    case closedLocally
    /// The peer closed the transport, in the phase named.
    case closedByPeer(ConnectionPhase)
    /// The peer said that it ends the session.
    case goneAway(GoAwayCode)
    /// The transport failed; the text is the system's.
    case transportFailed(String)
    /// The upgrade took longer than allowed; it was still in the phase named.
    case handshakeTimedOut(ConnectionPhase, after: Duration)
    /// Nothing came from the peer for this long.
    case unresponsive(Duration)
    /// The upgrade failed.
    case handshakeFailed(HandshakeError)
    /// A record could not be read or written.
    case recordFailed(RecordError)
    /// The peer broke the rules of Yamux.
    case muxerViolation(YamuxError)
    /// The peer broke the rules of QUIC: the code that it was told (RFC 9000, 20.1), and what was wrong.
    case quicViolation(UInt64, String)
    /// The peer ended a QUIC connection because of an error, by its code.
    case refusedByPeer(UInt64)

    /// Whether what carried the connection failed, and neither side wanted its end.
    package var isTransportFailure: Bool {
        if case .transportFailed = self { true } else { false }
    }

    /// Whether the peer was waited for in vain: there is nobody to take leave of.
    package var isSilence: Bool {
        switch self {
        case .unresponsive, .handshakeTimedOut: true
        default: false
        }
    }
}

/// How far a connection has come.
public enum ConnectionPhase: Hashable, Sendable {
    /// Agreeing on the security protocol.
    case negotiatingSecurity
    /// The Noise handshake.
    case securing
    /// Agreeing on the muxer, inside the secured channel.
    case negotiatingMuxer
    case established
}

/// What a Yamux session that ends says of itself.
public enum GoAwayCode: Hashable, Sendable {
    case normal
    case protocolError
    case internalError
    case other(UInt32)

    package init(rawValue: UInt32) {
        switch rawValue {
        case 0: self = .normal
        case 1: self = .protocolError
        case 2: self = .internalError
        default: self = .other(rawValue)
        }
    }

    var rawValue: UInt32 {
        switch self {
        case .normal: 0
        case .protocolError: 1
        case .internalError: 2
        case .other(let value): value
        }
    }
}

/// Why a connection could not be upgraded.
public enum HandshakeError: Error, Hashable, Sendable {
    /// multistream-select failed, or the peer does not speak it at all.
    case negotiation(MultistreamError)
    case noise(NoiseError)
    /// The peer is not the one that was dialled.
    case wrongPeer(expected: PeerID, actual: PeerID)
    /// The peer named its muxers and knows none of ours.
    case noCommonMuxer(offered: [String])
    /// The peer's TLS certificate does not prove who it is.
    case certificate(String)
    /// TLS failed with this alert (RFC 8446, 6.2).
    case tlsAlert(UInt64, sentByPeer: Bool)
    /// QUIC could not begin.
    case quic(String)
}

extension ConnectionCloseReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .closedLocally: "this side closed the connection"
        case .closedByPeer(let phase): "the peer closed the connection \(phase.whileText)"
        case .goneAway(.normal): "the peer ended the session"
        case .goneAway(.protocolError): "the peer ended the session, saying that this side broke the protocol"
        case .goneAway(.internalError): "the peer ended the session because of an error of its own"
        case .goneAway(.other(let code)): "the peer ended the session with the unknown code \(code)"
        case .transportFailed(let text): "the transport failed: \(text)"
        case .handshakeTimedOut(let phase, let limit): "the upgrade took longer than \(limit), \(phase.whileText)"
        case .unresponsive(let time): "the peer sent nothing for \(time)"
        case .handshakeFailed(let error): "the upgrade failed: \(error)"
        case .recordFailed(let error): "\(error)"
        case .muxerViolation(let error): "\(error)"
        case .quicViolation(let code, let text): "the peer broke the QUIC protocol: \(text) (code \(code))"
        case .refusedByPeer(let code): "the peer ended the QUIC connection with error \(code)"
        }
    }
}

extension ConnectionPhase {
    fileprivate var whileText: String {
        switch self {
        case .negotiatingSecurity: "while agreeing on the security protocol"
        case .securing: "during the Noise handshake"
        case .negotiatingMuxer: "while agreeing on the muxer"
        case .established: "after it was established"
        }
    }
}

extension HandshakeError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .negotiation(let error): "\(error)"
        case .noise(let error): "\(error)"
        case .wrongPeer(let expected, let actual): "dialled \(expected), but \(actual) answered"
        case .noCommonMuxer(let offered): "the peer offers only the muxers \(offered.joined(separator: ", "))"
        case .certificate(let text): text
        case .tlsAlert(let alert, true): "the peer refused the TLS handshake with alert \(alert)"
        case .tlsAlert(let alert, false): "the TLS handshake failed with alert \(alert)"
        case .quic(let text): text
        }
    }
}
