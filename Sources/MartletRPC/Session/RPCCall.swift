import DequeModule
package import MartletCore

/// One call as its session knows it: what it still has to send, and what it has received.
///
/// Sendable in name only: its fields belong to whoever holds its session.
package final class RPCCall: @unchecked Sendable {
    /// How the local side uses the call.
    package enum Kind: Sendable {
        /// One message each way; the caller hears of the end alone.
        case unary
        /// One message to the server and no answer.
        case oneWay
        /// Messages as both sides like.
        case stream
        /// A call that this side serves.
        case served
    }

    enum Phase {
        /// The caller's first frame is not encoded yet.
        case queued
        case open
        /// The caller has given up; the server's last frame is awaited, so that the number is not used again before.
        case abandoned
        case over
    }

    /// What comes after the messages that are queued.
    enum Ending {
        case none
        /// The caller's END.
        case end
        case result
        case failure(RPCError)

        var isSet: Bool { if case .none = self { false } else { true } }
    }

    /// Who waits for a call that is awaited as a whole; the owner's alone.
    package enum Waiter {
        case none
        case waiting(UnsafeContinuation<RPCMessage, any Error>)
        case done(Result<RPCMessage, RPCError>)
    }

    package var waiter = Waiter.none
    /// What the owner keeps with the call: who reads and writes its stream, and who runs its handler.
    package weak var port: AnyObject?
    package var worker: AnyObject?
    package var handler: RPCMethod?

    package let lane: RPCPriority
    package let kind: Kind
    /// The number on the wire; 0 for a one-way call of a single frame.
    package internal(set) var id: Int
    /// What the owner calls it by.
    package var token: Int
    var phase = Phase.open

    // Sending.
    /// The caller's first frame while it is not encoded.
    var header: RPCCallHeader?
    /// The number of the caller's first frame.
    var frameNumber: Int64 = -1
    private(set) var currentMessage: RPCMessage?
    var offset = 0
    private var queue = Deque<RPCMessage>()
    /// Bytes queued and not encoded.
    var queuedByteCount = 0
    var credit = RPCWire.initialCredit
    var ending = Ending.none
    /// The caller has said that nothing more follows.
    var hasFinished = false
    /// The owner was given the call to wait for.
    var wasReturned = false
    var isReady = false
    /// The last message is being sent, and the call is over with it.
    var isClosing = false
    var mustCancel = false
    var pendingCredit = 0
    var isUrgent = false
    /// Somebody waits to hear that there is room again.
    var wantsRoom = false

    // Receiving.
    var assembly: RPCMessage?
    var missing = 0
    /// Whole messages that were not taken; the first apart, so that a single one costs no queue.
    private var firstDelivered: RPCMessage?
    private var delivered = Deque<RPCMessage>()
    private(set) var deliveredCount = 0
    /// The message being received is the last.
    var endsAfterMessage = false
    var window = RPCWire.initialCredit
    /// What the peer may still send.
    var outstanding = RPCWire.initialCredit
    /// What was received and not taken.
    var buffered = 0
    /// What of it counts against the session's limit.
    var usage = 0
    /// Whether it was granted more than every call is.
    var isExtended = false
    /// Credit that the session could not spare yet.
    var starvedFor = 0
    var grantedAt: Instant?
    /// How it ended at the other side; nil while it goes on.
    var outcome: Result<Void, RPCError>?
    /// Frames of it that still come are dropped.
    var ignoresInput = false
    /// Somebody waits to hear that there is something to take.
    var wantsMessage = false

    // Serving.
    package internal(set) var method = ""
    /// The method's number in its lane, which stands for the same name as long as the session lives; nil when it does not.
    package internal(set) var methodNumber: Int?
    package internal(set) var metadata = RPCMetadata()
    package internal(set) var isOneWay = false
    package internal(set) var deadline: Instant?
    /// The handler runs, or will.
    var isRunning = false
    /// The handler was told to start.
    var wasStarted = false
    /// The handler takes one message, and is started with it.
    var takesOneMessage = false
    /// It is not there yet.
    var awaitsRequest = false

    init(lane: RPCPriority, kind: Kind, id: Int, token: Int) {
        self.lane = lane
        self.kind = kind
        self.id = id
        self.token = token
    }

    var isCaller: Bool { kind != .served }
    /// The peer sends no further message.
    var isRemoteEnded: Bool { outcome != nil }
    package var isOver: Bool { phase == .over || phase == .abandoned }

    // MARK: What is queued

    func enqueue(_ message: RPCMessage) {
        queuedByteCount += message.cost
        if currentMessage == nil { currentMessage = message } else { queue.append(message) }
    }

    /// The message being sent is all encoded.
    func finishCurrent() {
        guard let message = currentMessage else { return }
        queuedByteCount -= message.cost
        offset = 0
        currentMessage = queue.popFirst()
    }

    var isLastMessage: Bool { queue.isEmpty }

    func dropQueue() {
        currentMessage = nil
        offset = 0
        queue = []
        queuedByteCount = 0
    }

    /// Whether a frame of it could be encoded now.
    var isSendable: Bool {
        guard phase != .over else { return false }
        if header != nil { return true }
        guard let currentMessage else { return ending.isSet }
        if offset > 0 { return credit > 0 }
        return credit >= RPCWire.messageCharge + min(currentMessage.byteCount, 1)
    }

    // MARK: What has come

    var hasDelivered: Bool { firstDelivered != nil }

    func deliver(_ message: RPCMessage) {
        deliveredCount += 1
        if firstDelivered == nil { firstDelivered = message } else { delivered.append(message) }
    }

    func takeDelivered() -> RPCMessage? {
        guard let message = firstDelivered else { return nil }
        firstDelivered = delivered.popFirst()
        return message
    }

    func dropDelivered() {
        firstDelivered = nil
        delivered = []
        assembly = nil
        missing = 0
    }
}
