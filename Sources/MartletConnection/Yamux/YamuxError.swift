/// How a peer broke the rules of Yamux. Each ends the connection.
public enum YamuxError: Error, Hashable, Sendable, CustomStringConvertible {
    case unknownVersion(UInt8)
    case unknownFrameType(UInt8)
    /// Flags other than SYN, ACK, FIN and RST.
    case unknownFlags(UInt16)
    /// A stream frame for id 0, or a session frame for another id.
    case wrongStreamID(UInt32)
    /// The peer opened a stream with an id that belongs to this side.
    case idOfOtherSide(UInt32)
    /// The peer opened a stream that is already open.
    case alreadyOpen(UInt32)
    /// A frame for a stream that this side has never opened.
    case neverOpened(UInt32)
    /// More data than the window allows.
    case windowExceeded(stream: UInt32, length: UInt32, window: Int)
    /// Window updates that add up to more than 4 GiB.
    case windowOverflow(stream: UInt32)
    /// More data for streams that are gone than can have been under way when they went.
    case tooMuchStrayData(limit: Int)
    /// The peer causes answers and does not read them.
    case tooManyQueuedControlFrames(limit: Int)

    public var description: String {
        switch self {
        case .unknownVersion(let version): "the peer sent a Yamux frame of version \(version)"
        case .unknownFrameType(let type): "the peer sent a Yamux frame of unknown type \(type)"
        case .unknownFlags(let flags): "the peer sent a Yamux frame with the unknown flags \(flags)"
        case .wrongStreamID(let id): "the peer sent a Yamux frame of a kind that cannot carry stream id \(id)"
        case .idOfOtherSide(let id): "the peer opened stream \(id), whose number belongs to this side"
        case .alreadyOpen(let id): "the peer opened stream \(id) twice"
        case .neverOpened(let id): "the peer sent a frame for stream \(id), which this side never opened"
        case .windowExceeded(let id, let length, let window):
            "the peer sent \(length) bytes on stream \(id), whose window has \(window) left"
        case .windowOverflow(let id): "the peer's window updates for stream \(id) add up to more than 4 GiB"
        case .tooMuchStrayData(let limit): "the peer sent more than \(limit) bytes for streams that are gone"
        case .tooManyQueuedControlFrames(let limit): "the peer caused more than \(limit) answers without reading them"
        }
    }
}
