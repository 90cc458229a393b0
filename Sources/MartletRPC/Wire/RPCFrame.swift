import MartletCore

/// One frame of a lane, without the payload that may follow it; docs/protocols/rpc.md describes each.
package enum RPCFrame: Hashable, Sendable {
    case call(RPCCallHeader)
    /// The beginning of a message, or all of it.
    case message(call: Int, RPCMessageHeader, ends: Bool)
    /// More of the message that was begun.
    case more(call: Int, byteCount: Int)
    /// The caller sends no further message.
    case end(call: Int)
    /// The call is over and went well; a last message may come with it.
    case result(call: Int, RPCMessageHeader?)
    /// The call is over and failed.
    case failure(call: Int, RPCError)
    case cancel(call: Int)
    case credit(call: Int, byteCount: Int)
    /// How many frames of this lane have been received. Not counted itself.
    case acknowledge(Int64)
    /// The server takes no further calls in this session.
    case goAway

    /// Bytes of payload that follow the header.
    package var payloadCount: Int {
        switch self {
        case .call(let header): header.message?.fragment ?? 0
        case .message(_, let header, _): header.fragment
        case .more(_, let count): count
        case .result(_, let header): header?.fragment ?? 0
        case .end, .failure, .cancel, .credit, .acknowledge, .goAway: 0
        }
    }

    /// Whether the frame has a number, and is sent again after a loss.
    package var isCounted: Bool {
        if case .acknowledge = self { false } else { true }
    }
}

/// What begins a call.
package struct RPCCallHeader: Hashable, Sendable {
    /// 0 for a one-way call in a single frame, which is never answered.
    package var call: Int
    /// The place of the method in the lane's table.
    package var method: Int
    /// The method's name, the first time.
    package var methodName: String?
    package var isOneWay = false
    package var milliseconds: Int?
    package var metadata = RPCMetadata()
    package var message: RPCMessageHeader?
    /// No message follows this one.
    package var ends = false

    package init(call: Int, method: Int, methodName: String? = nil) {
        self.call = call
        self.method = method
        self.methodName = methodName
    }
}

/// What begins a message: its whole size, and how much of it is in this frame.
package struct RPCMessageHeader: Hashable, Sendable {
    package var total: Int
    package var fragment: Int
    package var tensor: TensorDescription?

    package init(total: Int, fragment: Int, tensor: TensorDescription? = nil) {
        self.total = total
        self.fragment = fragment
        self.tensor = tensor
    }
}

/// Numbers that both sides know without being told.
package enum RPCWire {
    package static let version: UInt8 = 1
    /// The most payload in one frame.
    package static let fragmentLimit = 64 << 10
    /// What each call may send in each direction before it is granted more, in bytes of payload and `messageCharge`s.
    package static let initialCredit = 288 << 10
    /// What every message costs on top of its bytes, so that empty ones are bounded, too.
    package static let messageCharge = 64
    /// Method names that a lane can abbreviate.
    package static let methodLimit = 1024
    /// Calls that a caller may have under way in a lane before it knows the server's limit.
    package static let initialCallLimit = 1024
    /// No call has a larger number.
    package static let callLimit = 65_535

    enum FrameType {
        static let call: UInt8 = 1
        static let message: UInt8 = 2
        static let more: UInt8 = 3
        static let end: UInt8 = 4
        static let result: UInt8 = 5
        static let failure: UInt8 = 6
        static let cancel: UInt8 = 7
        static let credit: UInt8 = 8
        static let acknowledge: UInt8 = 9
        static let goAway: UInt8 = 10
    }

    /// Bits of the first byte, above the type.
    enum Flag {
        static let message: UInt8 = 0x10
        static let partial: UInt8 = 0x20
        static let ends: UInt8 = 0x40
        static let tensor: UInt8 = 0x80
    }

    /// Bits of the second byte of a call.
    enum CallFlag {
        static let oneWay: UInt8 = 1
        static let deadline: UInt8 = 2
        static let metadata: UInt8 = 4
        static let name: UInt8 = 8
        static let known: UInt8 = 15
    }
}
