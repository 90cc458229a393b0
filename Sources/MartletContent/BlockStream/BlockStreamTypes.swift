public import MartletCore

/// `/martlet/blocks/1`: many blocks over one stream, streamed back to back. The wire format is in docs/protocols/blocks.md.
public enum BlockStream {
    public static let protocolID = "/martlet/blocks/1"

    /// Bounds on what one stream may make the other side hold. Both sides of a version know them; asking for more than
    /// the server's limits ends the stream.
    public struct Limits: Hashable, Sendable {
        /// The largest request message, in bytes.
        public var requestByteCount = 64 << 10
        /// Requests that are not completely answered.
        public var outstandingRequests = 64
        /// Blocks asked for and not answered, over all requests of the stream.
        public var outstandingItems = 1 << 20
        /// Ranges of leaves in one request.
        public var rangesPerRequest = 256
        /// CIDs in one request.
        public var blocksPerRequest = 512
        /// The largest block.
        public var blockByteCount = 2 << 20

        public init() {}
    }

    /// What the client asks for. Identifiers are chosen by the client and may be used again once a request is over.
    public enum Request: Hashable, Sendable {
        /// The inner nodes below `root`, breadth first, each once.
        case structure(id: UInt32, root: CID)
        /// Leaves of the file `root` by their index, in this order.
        case leaves(id: UInt32, root: CID, ranges: [Range<UInt64>])
        /// Single blocks, in this order.
        case blocks(id: UInt32, cids: [CID])
        /// Forget what is left of a request.
        case cancel(id: UInt32)
    }

    /// What became of a block that was asked for.
    public enum Status: UInt8, Hashable, Sendable {
        /// The block follows.
        case found = 0
        /// A structure is complete.
        case end = 1
        /// The server does not have it.
        case notFound = 2
        /// The file that held it has changed since it was shared.
        case stale = 3
        /// The server has no room for it now; ask again later, or somebody else.
        case tooBusy = 4
        /// The server will not give it to this client.
        case refused = 5
        /// The request was cancelled before this block was sent.
        case cancelled = 6
        /// The server could not read it.
        case failed = 7
    }

    /// What comes before each block, and instead of blocks that do not come.
    public struct ItemHeader: Hashable, Sendable {
        public var requestID: UInt32
        /// The block's place in the request's order, from 0.
        public var position: UInt64
        public var status: Status
        /// With `found`, the size of the block that follows. Otherwise how many blocks in a row have this status.
        public var count: UInt64

        public init(requestID: UInt32, position: UInt64, status: Status, count: UInt64) {
            self.requestID = requestID
            self.position = position
            self.status = status
            self.count = count
        }

        /// The most bytes that a header takes.
        public static let maximumByteCount = 5 + 9 + 1 + 9
    }
}

/// What the other side did that the protocol does not allow. The stream is reset.
public enum BlockStreamError: Error, Hashable, Sendable, CustomStringConvertible {
    case malformed(DecodingError)
    case unknownMessage(UInt64)
    case unknownStatus(UInt8)
    case requestTooLong(UInt64, limit: Int)
    case tooManyRequests(limit: Int)
    case tooManyItems(limit: Int)
    case duplicateRequest(UInt32)
    case unknownRequest(UInt32)
    case emptyRequest
    case wrongPosition(expected: UInt64, got: UInt64)
    case wrongStatus(Status)
    /// A block of another size than the graph says, or than the limit allows.
    case wrongLength(expected: UInt64, got: UInt64)
    case tooManyAnswers
    /// The stream ended inside a message.
    case endedEarly

    public typealias Status = BlockStream.Status

    public var description: String {
        switch self {
        case .malformed(let error): "a malformed message: \(error)"
        case .unknownMessage(let type): "a message of unknown type \(type)"
        case .unknownStatus(let status): "an unknown status \(status)"
        case .requestTooLong(let count, let limit): "a request of \(count) bytes, the limit is \(limit)"
        case .tooManyRequests(let limit): "more than \(limit) requests at once"
        case .tooManyItems(let limit): "more than \(limit) blocks asked for at once"
        case .duplicateRequest(let id): "request \(id) is still being answered"
        case .unknownRequest(let id): "an answer to request \(id), which was not made"
        case .emptyRequest: "a request for nothing"
        case .wrongPosition(let expected, let got): "block \(got) where block \(expected) was due"
        case .wrongStatus(let status): "status \(status) where it makes no sense"
        case .wrongLength(let expected, let got): "a block of \(got) bytes where \(expected) were due"
        case .tooManyAnswers: "more answers than were asked for"
        case .endedEarly: "the stream ended inside a message"
        }
    }
}
