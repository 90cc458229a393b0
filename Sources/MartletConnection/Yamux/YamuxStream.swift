import MartletCore

/// What a session knows of one stream. A class, so that lists and the table share it without copying; about 200 bytes.
final class YamuxStream {
    let id: UInt32
    /// Whether this side opened it.
    let isOutbound: Bool

    // Sending.
    @exclusivity(unchecked) var queue = SendQueue()
    /// How many bytes the peer will still take.
    var sendWindow: Int
    /// What is left of this stream's turn in its class.
    var deficit = 0
    var priority = StreamPriority.normal

    // Receiving.
    /// How many bytes the peer may still send.
    var receiveWindow: Int
    /// What the window is refilled to.
    var windowLimit: Int
    /// What `windowLimit` may grow to, if less than what the configuration says.
    var windowCeiling = Int.max
    /// Bytes handed up that the application has not taken yet.
    var unconsumed = 0
    /// When the last half of the window began to be used.
    var epoch: Instant?

    /// The first frame has yet to go, and carries SYN.
    var mustSendSYN: Bool
    /// The next frame carries ACK.
    var mustSendACK = false
    /// The peer has acknowledged a stream of ours.
    var isAcknowledged = false
    /// `finish` was called.
    var isFinishing = false
    var hasSentFIN = false
    var hasReceivedFIN = false
    /// At how many queued bytes `.writable` is owed; negative when it is not.
    var writableMark = -1
    /// The window has room worth telling the peer about.
    var mustSendWindow = false
    /// The session has dropped it; only a list being walked may still hold it.
    var isForgotten = false

    var readyLink = YamuxStreamLink()
    var noticeLink = YamuxStreamLink()

    init(id: UInt32, isOutbound: Bool, window: Int) {
        self.id = id
        self.isOutbound = isOutbound
        sendWindow = window
        receiveWindow = window
        windowLimit = window
        mustSendSYN = isOutbound
    }

    var streamID: StreamID { StreamID(rawValue: UInt64(id)) }

    /// Whether a DATA frame of it could go now.
    var isSendable: Bool {
        queue.isEmpty ? isFinishing && !hasSentFIN : sendWindow > 0
    }

    /// How much window could be granted now.
    var grantable: Int { windowLimit - receiveWindow - unconsumed }

    /// The flags that the next frame, of whatever kind, has to carry.
    func takeOpeningFlags() -> YamuxHeader.Flags {
        if mustSendSYN {
            mustSendSYN = false
            return .syn
        }
        if mustSendACK {
            mustSendACK = false
            return .ack
        }
        return []
    }
}

/// The neighbours of a stream in one list.
struct YamuxStreamLink {
    var previous: Unmanaged<YamuxStream>?
    var next: Unmanaged<YamuxStream>?
    var isLinked = false
}

/// Which of a stream's links a list uses.
protocol YamuxStreamLinkSlot {
    static func link(of stream: YamuxStream) -> YamuxStreamLink
    static func setLink(_ link: YamuxStreamLink, of stream: YamuxStream)
}

/// Streams that have data to send, one list for each priority.
enum ReadySlot: YamuxStreamLinkSlot {
    static func link(of stream: YamuxStream) -> YamuxStreamLink { stream.readyLink }
    static func setLink(_ link: YamuxStreamLink, of stream: YamuxStream) { stream.readyLink = link }
}

/// Streams that have a window update, a SYN or an ACK to send.
enum NoticeSlot: YamuxStreamLinkSlot {
    static func link(of stream: YamuxStream) -> YamuxStreamLink { stream.noticeLink }
    static func setLink(_ link: YamuxStreamLink, of stream: YamuxStream) { stream.noticeLink = link }
}

/// A queue of streams linked through themselves: a stream leaves it from any place at once, and it needs no memory, so a
/// peer that opens and resets streams while nothing can be sent grows nothing.
///
/// It does not retain its members. The session's table does, and the session unlinks a stream before dropping it.
struct YamuxStreamList<Slot: YamuxStreamLinkSlot> {
    private var head: Unmanaged<YamuxStream>?
    private var tail: Unmanaged<YamuxStream>?

    var isEmpty: Bool { head == nil }
    // The members are alive: the session's table holds each until it is unlinked.
    var first: YamuxStream? { head?.takeUnretainedValue() }

    func contains(_ stream: YamuxStream) -> Bool { Slot.link(of: stream).isLinked }

    /// Does nothing when the stream is in the list already.
    mutating func append(_ stream: YamuxStream) {
        guard !Slot.link(of: stream).isLinked else { return }
        let reference = Unmanaged.passUnretained(stream)
        Slot.setLink(YamuxStreamLink(previous: tail, next: nil, isLinked: true), of: stream)
        if let tail {
            let last = tail.takeUnretainedValue()
            var link = Slot.link(of: last)
            link.next = reference
            Slot.setLink(link, of: last)
        } else {
            head = reference
        }
        tail = reference
    }

    /// Does nothing when the stream is in no such list.
    mutating func remove(_ stream: YamuxStream) {
        let link = Slot.link(of: stream)
        guard link.isLinked else { return }
        if let previous = link.previous?.takeUnretainedValue() {
            var other = Slot.link(of: previous)
            other.next = link.next
            Slot.setLink(other, of: previous)
        } else {
            head = link.next
        }
        if let next = link.next?.takeUnretainedValue() {
            var other = Slot.link(of: next)
            other.previous = link.previous
            Slot.setLink(other, of: next)
        } else {
            tail = link.previous
        }
        Slot.setLink(YamuxStreamLink(), of: stream)
    }

    /// Puts the first stream behind the last.
    mutating func rotate() {
        guard let first else { return }
        remove(first)
        append(first)
    }
}
