public import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a stream socket asks and tells its user. All calls are made in-loop and never from inside a call into the socket.
public protocol StreamSocketDelegate: AnyObject {
    /// Bytes received earlier that are not processed yet: they are put in front of the next ones. Fewer than 128 KiB.
    var leftover: Bytes { get }

    /// The leftover and what came after it. The region is the delegate's, to decrypt in place and to slice.
    func socketReceived(_ region: ReceivedRegion)

    /// Fills `buffer` with what is to be sent now. Who has more puts it in whole pieces of less than 66,000 bytes until one
    /// does not fit, and is asked again; who leaves more room than that has nothing left until `setNeedsFlush`.
    func socketTransmit(into buffer: inout TransmitBuffer)

    /// The other side will send nothing more, or the connection is gone. The last call; nil for an orderly end.
    func socketClosed(_ error: SocketError?)

    /// The other side will send nothing more. True keeps the socket open for sending, until `close()`; false, which is the
    /// default, has it closed now.
    func socketRemoteFinished() -> Bool
}

extension StreamSocketDelegate {
    public func socketRemoteFinished() -> Bool { false }
}

/// A connected TCP or Unix-domain socket on a loop.
///
///     let socket = try StreamSocket(loop: loop, descriptor: accepted.descriptor)
///     socket.delegate = connection
///     socket.start()
///
/// It is a `uv_poll_t` with system calls of its own rather than a `uv_tcp_t`: so bytes land where the connection wants
/// them (behind its leftover, in the loop's shared buffer), one socket reads a bounded amount per turn, a finished or
/// broken peer is noticed while reading is paused, a descriptor accepted on one loop is used on any other, TCP and Unix
/// sockets are the same code, and nothing is allocated per read or write.
///
/// Sending is pulled: `setNeedsFlush()` asks the delegate once at the end of the turn for up to one block (272 KiB, less on
/// slow paths, see `SendPace`) and writes it with one system call. Who fills it goes on in the next turn, so that the tasks of
/// this one, what they say, and what has come meanwhile wait for one block and no more. A block is held only while something
/// in it is unsent.
///
/// In-loop only, not Sendable. The loop keeps it, and it keeps its delegate, until it is closed.
public final class StreamSocket: LoopResource {
    private enum State {
        /// Made, not started.
        case idle
        case open
        /// Closing: sending what is pending, then `.lingering`.
        case flushing
        /// Everything is sent and the end announced; waiting for the other side's end.
        case lingering
        case closed
    }

    public var delegate: (any StreamSocketDelegate)?
    public let localAddress: SocketAddress
    public let remoteAddress: SocketAddress
    public let options: StreamSocketOptions
    /// Bytes moved since the socket was made.
    public private(set) var receivedByteCount = 0
    public private(set) var sentByteCount = 0
    /// The other side has said that it will send nothing more.
    public private(set) var isRemoteFinished = false

    private let descriptor: CInt
    private let poll: PollHandle
    private var flushWork: FlushWork!
    /// Asks for a flush in the next turn; scheduled while `fullTurn` is this one.
    private var moreWork: MoreWork!
    /// The turn in which a full block was written.
    private var fullTurn = -1
    private var state = State.idle
    private var isPaused = false
    /// The kernel takes no more; wait until it says writable.
    private var isBlocked = false
    private var wantsFinish = false
    private var isFinished = false
    /// While paused: the other side's end is waiting to be read.
    private var sawEnd = false
    /// Nothing is left to watch for.
    private var hungUp = false
    /// What is unsent: from `sent` to the buffer's count.
    private var transmit: TransmitBuffer?
    private var sent = 0
    private var lingerTimer: LoopTimer?
    private var pace = SendPace(largest: EventLoopGroup.transmitBlockSize)

    /// A piece that a delegate may still want to add must fit into this.
    private static let largestPiece = 66_000
    /// An unsent rest of at most this moves to memory of its own size, so that slow peers do not hold whole blocks.
    private static let smallRest = 64 * 1024
    private static let minimumRead = 64 * 1024

    /// How the kernel controls the congestion of the path, by its name for it.
    var congestionControl: String { Descriptor.congestionControl(descriptor) }

    /// Takes over a connected descriptor, which must not block. In-loop.
    ///
    /// - Throws: when the descriptor is no socket, is not connected any more, or the loop is shutting down; it is closed then.
    public convenience init(
        loop: EventLoop, descriptor: CInt, options: StreamSocketOptions = .init()
    ) throws(SocketError) {
        guard let local = SocketAddress.local(of: descriptor), let remote = SocketAddress.remote(of: descriptor) else {
            let code = errno
            Descriptor.close(descriptor)
            throw SocketError(.open, nil, code: code)
        }
        Descriptor.prepareStream(descriptor, remote, options)
        guard let poll = PollHandle(loop: loop, descriptor: descriptor) else {
            Descriptor.close(descriptor)
            throw SocketError(.open, remote, code: EBADF)
        }
        try self.init(loop: loop, descriptor: descriptor, poll: poll, local: local, remote: remote, options: options)
    }

    init(
        loop: EventLoop, descriptor: CInt, poll: PollHandle, local: SocketAddress, remote: SocketAddress,
        options: StreamSocketOptions
    ) throws(SocketError) {
        assert(loop.inLoop, "sockets are for the holder of the loop")
        self.descriptor = descriptor
        self.poll = poll
        self.options = options
        localAddress = local
        remoteAddress = remote
        super.init(loop: loop)
        Descriptor.prepareConnected(descriptor, remote, options)
        flushWork = FlushWork(self)
        moreWork = MoreWork(self)
        poll.handler = { [unowned self] failed, events in ready(failed, events) }
        guard register() else {
            state = .closed
            poll.close()
            Descriptor.close(descriptor)
            dropWorks()
            throw SocketError(.open, remote, code: ESHUTDOWN)
        }
    }

    // MARK: for the user

    public var isClosed: Bool { state == .closed }

    /// Whether something unsent occupies a block.
    var holdsTransmitBlock: Bool { transmit != nil }

    /// Begins to read and to send. Set the delegate before.
    public func start() {
        guard state == .idle else { return }
        state = .open
        updateEvents()
        setNeedsFlush()
    }

    /// Has the delegate asked for bytes to send at the end of this turn.
    public func setNeedsFlush() {
        guard state != .closed, !isBlocked, fullTurn != loop.turnCount else { return }
        loop.atEndOfTurn(flushWork)
    }

    /// The turn after the one in which a block was filled.
    fileprivate func flushMore() {
        // What is scheduled in the first half of a turn runs in the second.
        if fullTurn == loop.turnCount { loop.schedule(moreWork) } else { setNeedsFlush() }
    }

    /// Leaves arriving bytes in the kernel, which in time stops the sender. A broken connection is still reported.
    public func pauseReading() {
        isPaused = true
        updateEvents()
    }

    public func resumeReading() {
        isPaused = false
        updateEvents()
    }

    /// Says, after everything pending is sent, that nothing more will be; reading goes on.
    public func finish() {
        wantsFinish = true
        setNeedsFlush()
    }

    /// Sends what the delegate still has, announces the end, waits for the other side's, and closes; all within the linger
    /// time. Nothing is received any more. The delegate is told when it is done: nil, or `ETIMEDOUT` when not all
    /// could be sent.
    public func close() {
        switch state {
        case .idle, .open:
            state = .flushing
            let timer = LoopTimer(loop: loop) { [unowned self] in lingerTimeIsOver() }
            lingerTimer = timer
            timer.schedule(at: loop.now + options.lingerTime)
            updateEvents()
            setNeedsFlush()
        case .flushing, .lingering, .closed:
            break
        }
    }

    /// Closes at once with a reset, dropping what is unsent. The delegate is not called any more.
    public func abort() {
        guard state != .closed else { return }
        Descriptor.resetOnClose(descriptor)
        delegate = nil
        end(nil)
    }

    override func closeForShutdown() {
        guard state != .closed else { return }
        // What can be sent without waiting is.
        if state == .open || state == .flushing { flush() }
        if state != .closed { end(SocketError(.close, remoteAddress, code: ESHUTDOWN)) }
    }

    // MARK: events

    private var isReading: Bool {
        switch state {
        case .open: !isPaused && !isRemoteFinished
        case .flushing, .lingering: !isRemoteFinished
        case .idle, .closed: false
        }
    }

    private func updateEvents() {
        guard state != .idle, state != .closed else { return }
        var events: PollEvents
        if isReading {
            events = .readable
        } else if hungUp {
            events = []
        } else {
            // Only errors are of interest once the end is known.
            events = isRemoteFinished || sawEnd ? .urgent : .disconnect
        }
        if isBlocked { events.insert(.writable) }
        poll.update(events)
    }

    private func ready(_ failed: Bool, _ events: PollEvents) {
        if events.contains(.writable) {
            isBlocked = false
            loop.atEndOfTurn(flushWork)
        }
        if isReading {
            // What came before an error is read first, and then the error.
            if failed || events.contains(.readable) { read(untilEnd: failed) }
            if failed, state != .closed { failIfBroken() }
        } else if failed || !events.isDisjoint(with: [.disconnect, .urgent]) {
            failIfBroken()
            // Both directions have ended, or the other side's end is waiting to be read; either is reported for ever.
            if events.contains(.urgent) { hungUp = true } else { sawEnd = true }
        }
        updateEvents()
    }

    private func failIfBroken() {
        let code = Descriptor.takeError(descriptor)
        if code != 0 { end(SocketError(.read, remoteAddress, code: code)) }
    }

    private func lingerTimeIsOver() {
        end(state == .lingering ? nil : SocketError(.close, remoteAddress, code: ETIMEDOUT))
    }

    /// The last step of every life.
    private func end(_ error: SocketError?) {
        guard state != .closed else { return }
        state = .closed
        poll.close()
        Descriptor.close(descriptor)
        lingerTimer?.cancel()
        lingerTimer = nil
        transmit = nil
        dropWorks()
        unregister()
        let delegate = delegate
        self.delegate = nil
        delegate?.socketClosed(error)
    }

    private func dropWorks() {
        flushWork.socket = nil
        moreWork.socket = nil
    }

    // MARK: reading

    private func read(untilEnd: Bool) {
        loop.noteBufferUse()
        var budget = options.readBudget
        while isReading {
            let isWanted = state == .open
            let leftover = isWanted ? delegate?.leftover ?? Bytes() : Bytes()
            guard leftover.count + Self.minimumRead <= loop.receivePool.blockSize else {
                end(SocketError(.read, remoteAddress, code: EMSGSIZE))
                return
            }
            let space = loop.receiveBuffer.space(minimum: Self.minimumRead, keeping: leftover)
            let count = recv(descriptor, space.baseAddress, space.count, 0)
            if count > 0 {
                receivedByteCount += count
                budget -= count
                if isWanted { delegate?.socketReceived(loop.receiveBuffer.received(count)) }
                // Less than there was room for: the kernel has no more just now. Level-triggered polling finds the rest.
                if !untilEnd, count < space.count || budget <= 0 { return }
            } else if count == 0 {
                sawRemoteEnd()
                return
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                end(SocketError(.read, remoteAddress, code: errno))
                return
            }
        }
    }

    private func sawRemoteEnd() {
        isRemoteFinished = true
        switch state {
        case .open:
            let keepsSending = delegate?.socketRemoteFinished() ?? false
            if state == .open, !keepsSending || isFinished { end(nil) }
        case .lingering: end(nil)
        case .flushing, .idle, .closed: break
        }
    }

    // MARK: sending

    /// At the end of a turn, unless a full block was sent in it.
    fileprivate func flushInTurn() {
        if fullTurn != loop.turnCount { flush() }
    }

    /// One write.
    private func flush() {
        guard state == .open || state == .flushing, !isBlocked, !isFinished else { return }
        var buffer: TransmitBuffer
        if let unsent = transmit.take() {
            buffer = unsent
        } else {
            loop.noteBufferUse()
            buffer = TransmitBuffer(
                storage: pace.isUnlimited ? loop.takeTransmitStorage() : BytesStorage(capacity: pace.blockSize))
            sent = 0
            delegate?.socketTransmit(into: &buffer)
            guard state == .open || state == .flushing else { return }
        }
        if buffer.count > 0 {
            let isMoreLikely = buffer.remaining < Self.largestPiece
            guard write(buffer) else { return }
            if isMoreLikely {
                // The others first; this goes on in the next turn.
                fullTurn = loop.turnCount
                loop.schedule(moreWork)
                return
            }
        }
        if state == .flushing || wantsFinish { finishSending() }
    }

    /// Writes what is unsent of `buffer`. False when something is left, which is kept, or when the socket broke.
    private func write(_ buffer: consuming TransmitBuffer) -> Bool {
        let rest = buffer.written[sent...]
        var count = 0
        repeat {
            count = Descriptor.send(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress!, rest.count)
        } while count < 0 && errno == EINTR
        if count < 0, errno != EAGAIN {
            breakSending(errno)
            return false
        }
        count = max(0, count)
        sentByteCount += count
        if count == rest.count {
            if pace.finished(buffer.count, now: loop.now), !remoteAddress.isUnix {
                Descriptor.limitUnsent(descriptor, pace.isUnlimited ? 0 : pace.blockSize)
            }
            return true
        }
        pace.blocked(now: loop.now)
        isBlocked = true
        updateEvents()
        sent += count
        let left = UnsafeRawBufferPointer(rebasing: buffer.written[sent...])
        if left.count <= Self.smallRest, buffer.storage.capacity > 2 * Self.smallRest {
            var small = TransmitBuffer(storage: BytesStorage(capacity: left.count))
            small.append(left)
            sent = 0
            transmit = consume small
        } else {
            transmit = consume buffer
        }
        return false
    }

    /// The other side takes no more: what it sent before that still counts.
    private func breakSending(_ code: CInt) {
        if state == .open, isReading { read(untilEnd: true) }
        end(SocketError(.write, remoteAddress, code: code))
    }

    private func finishSending() {
        guard !isFinished else { return }
        isFinished = true
        shutdown(descriptor, CInt(SHUT_WR))
        if isRemoteFinished {
            end(nil)
        } else if state == .flushing {
            state = .lingering
            updateEvents()
        }
    }
}

/// The flush of a socket as work. It keeps the socket until that is closed.
private final class FlushWork: LoopWork, @unchecked Sendable {
    var socket: StreamSocket?

    init(_ socket: StreamSocket) { self.socket = socket }

    override func run() { socket?.flushInTurn() }
}

/// More of the same in the next turn.
private final class MoreWork: LoopWork, @unchecked Sendable {
    var socket: StreamSocket?

    init(_ socket: StreamSocket) { self.socket = socket }

    override func run() { socket?.flushMore() }
}
