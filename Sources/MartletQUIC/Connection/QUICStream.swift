import MartletConnection
import MartletCore

/// One stream of a `QUICConnection`. It outlives what the owner sees of it until both sides have acknowledged its end.
final class QUICStream {
    let id: Int64
    var priority = StreamPriority.normal
    @exclusivity(unchecked) var queue = QUICSendQueue()

    /// The owner was told the last of it, or has reset it.
    var isForgotten = false
    /// Nothing more is accepted from the owner; the end is sent after what is queued.
    var isFinishing = false
    /// The end went out.
    var hasSentEnd = false
    /// The peer wants to read nothing more, or the library has ended the direction.
    var isSendEnded = false
    var hasReceivedEnd = false

    /// Whether it waits in the scheduler's queue of its class.
    var isScheduled = false
    /// The peer's window of the stream is used up.
    var isBlocked = false
    /// Bytes sent since it came to the front of its queue.
    var turnByteCount = 0
    /// At how many queued bytes `.writable` is owed; negative when it is not.
    var writableMark = -1

    /// Bytes handed up and not taken yet.
    var unconsumed = 0
    /// The receive window, how much of it was taken since `epoch`, and how far it has grown beyond its first size.
    var window: Int
    var consumedInEpoch = 0
    var epoch: Instant?
    var windowGrowth = 0
    /// What the window may grow to, if less than what the configuration says.
    var windowCeiling = Int.max

    init(id: Int64, window: Int) {
        self.id = id
        self.window = window
    }

    var streamID: StreamID { StreamID(rawValue: UInt64(id)) }

    /// Whether there is something to send.
    var wantsToSend: Bool {
        !isSendEnded && !isBlocked && !hasSentEnd && (queue.unsentCount > 0 || isFinishing)
    }
}
