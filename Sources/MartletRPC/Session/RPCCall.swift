import DequeModule
package import MartletCore

/// One call as its session knows it: what it still has to send, and what it has received.
///
/// Sendable in name only: its fields belong to whoever holds its session. That is also why the run-time check for
/// overlapping access, which costs more than what a small call does here, is spared: nothing runs code of others.
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

    @exclusivity(unchecked) package var waiter = Waiter.none
    /// What the owner keeps with the call: who reads and writes its stream, and who runs its handler.
    package weak var port: AnyObject?
    @exclusivity(unchecked) package var worker: AnyObject?
    @exclusivity(unchecked) package var handler: RPCMethod?

    package let lane: RPCPriority
    package let kind: Kind
    /// The number on the wire; 0 for a one-way call of a single frame.
    @exclusivity(unchecked) package internal(set) var id: Int
    /// What the owner calls it by.
    @exclusivity(unchecked) package var token: Int
    @exclusivity(unchecked) var phase = Phase.open

    // Sending.
    /// The caller's first frame while it is not encoded.
    @exclusivity(unchecked) var header: RPCCallHeader?
    /// The number of the caller's first frame.
    @exclusivity(unchecked) var frameNumber: Int64 = -1
    @exclusivity(unchecked) private(set) var currentMessage: RPCMessage?
    @exclusivity(unchecked) var offset = 0
    @exclusivity(unchecked) private var queue: Deque<RPCMessage>?
    /// Bytes queued and not encoded.
    @exclusivity(unchecked) var queuedByteCount = 0
    @exclusivity(unchecked) var credit = RPCWire.initialCredit
    @exclusivity(unchecked) var ending = Ending.none
    /// The caller has said that nothing more follows.
    @exclusivity(unchecked) var hasFinished = false
    @exclusivity(unchecked) var whenCutOff = RPCCutOffPolicy.wait
    /// The owner was given the call to wait for.
    @exclusivity(unchecked) var wasReturned = false
    @exclusivity(unchecked) var isReady = false
    /// The last message is being sent, and the call is over with it.
    @exclusivity(unchecked) var isClosing = false
    @exclusivity(unchecked) var mustCancel = false
    @exclusivity(unchecked) var pendingCredit = 0
    @exclusivity(unchecked) var isUrgent = false
    /// Somebody waits to hear that there is room again.
    @exclusivity(unchecked) var wantsRoom = false

    // Receiving.
    @exclusivity(unchecked) var assembly: RPCMessage?
    @exclusivity(unchecked) var missing = 0
    /// Whole messages that were not taken; the first apart, so that a single one costs no queue.
    @exclusivity(unchecked) private var firstDelivered: RPCMessage?
    @exclusivity(unchecked) private var delivered: Deque<RPCMessage>?
    @exclusivity(unchecked) private(set) var deliveredCount = 0
    /// The message being received is the last.
    @exclusivity(unchecked) var endsAfterMessage = false
    @exclusivity(unchecked) var window = RPCWire.initialCredit
    /// What the peer may still send.
    @exclusivity(unchecked) var outstanding = RPCWire.initialCredit
    /// What was received and not taken.
    @exclusivity(unchecked) var buffered = 0
    /// What of it counts against the session's limit.
    @exclusivity(unchecked) var usage = 0
    /// Whether it was granted more than every call is.
    @exclusivity(unchecked) var isExtended = false
    /// Credit that the session could not spare yet.
    @exclusivity(unchecked) var starvedFor = 0
    @exclusivity(unchecked) var grantedAt: Instant?
    /// How it ended at the other side; nil while it goes on.
    @exclusivity(unchecked) var outcome: Result<Void, RPCError>?
    /// Frames of it that still come are dropped.
    @exclusivity(unchecked) var ignoresInput = false
    /// Somebody waits to hear that there is something to take.
    @exclusivity(unchecked) var wantsMessage = false

    // Serving.
    @exclusivity(unchecked) package internal(set) var method = ""
    /// The method's number in its lane, which stands for the same name as long as the session lives; nil when it does not.
    @exclusivity(unchecked) package internal(set) var methodNumber: Int?
    @exclusivity(unchecked) package internal(set) var metadata = RPCMetadata()
    @exclusivity(unchecked) package internal(set) var isOneWay = false
    @exclusivity(unchecked) package internal(set) var deadline: Instant?
    /// The handler runs, or will.
    @exclusivity(unchecked) var isRunning = false
    /// The handler was told to start.
    @exclusivity(unchecked) var wasStarted = false
    /// The handler takes one message, and is started with it.
    @exclusivity(unchecked) var takesOneMessage = false
    /// It is not there yet.
    @exclusivity(unchecked) var awaitsRequest = false

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
        if currentMessage == nil { currentMessage = message } else { queue = Self.appending(message, to: queue.take()) }
    }

    /// The message being sent is all encoded.
    func finishCurrent() {
        guard let message = currentMessage else { return }
        queuedByteCount -= message.cost
        offset = 0
        currentMessage = queue?.popFirst()
    }

    var isLastMessage: Bool { queue?.isEmpty ?? true }

    func dropQueue() {
        currentMessage = nil
        offset = 0
        queue = nil
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

    /// Most calls have one message each way, and need no queue.
    private static func appending(_ message: RPCMessage, to queue: consuming Deque<RPCMessage>?) -> Deque<RPCMessage> {
        var queue = queue ?? []
        queue.append(message)
        return queue
    }

    // MARK: What has come

    var hasDelivered: Bool { firstDelivered != nil }

    func deliver(_ message: RPCMessage) {
        deliveredCount += 1
        if firstDelivered == nil {
            firstDelivered = message
        } else {
            delivered = Self.appending(message, to: delivered.take())
        }
    }

    func takeDelivered() -> RPCMessage? {
        guard let message = firstDelivered else { return nil }
        firstDelivered = delivered?.popFirst()
        return message
    }

    /// Lets go of what has come. How much of a message is still to come stays known: the number is free only after the last.
    func dropDelivered() {
        firstDelivered = nil
        delivered = nil
        assembly = nil
    }
}
