public import MartletCore

/// What a peer did that Lattica's protocols do not allow, or that a limit forbids. The stream it happened on is closed.
public enum LatticaError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A frame announced more than `LatticaLimits.frameSize`.
    case frameTooLong(length: Int, limit: Int)
    /// An argument or a result beyond `LatticaLimits.messageSize`.
    case messageTooLong(limit: Int)
    case malformed(DecodingError)
    /// A payload is compressed: that is never asked for, and cannot be unpacked within bounds.
    case compressed(LatticaCompression)
    /// A frame or message that the other side does not send in this direction.
    case unexpected(String)
    /// A call was begun with the id of one that is not over.
    case duplicateCall(id: String)
    /// The stream ended inside a message.
    case ended(afterByteCount: Int)

    public var description: String {
        switch self {
        case .frameTooLong(let length, let limit): "a frame of \(length) bytes, frameSize is \(limit)"
        case .messageTooLong(let limit): "a message is longer than messageSize, which is \(limit) bytes"
        case .malformed(let error): "malformed: \(error)"
        case .compressed(let compression): "the payload is compressed (\(compression)), which is not supported"
        case .unexpected(let what): "\(what) came from the wrong side"
        case .duplicateCall(let id): "a second call with the id \(id)"
        case .ended(let count): "the stream ended inside a message, after \(count) bytes"
        }
    }
}

/// How a unary payload is packed. Only `none` is ever sent or taken.
public enum LatticaCompression: UInt8, Hashable, Sendable, CaseIterable {
    case none, gzip, zstd, lz4, brotli
}
