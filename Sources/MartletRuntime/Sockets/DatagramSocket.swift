import CMartlet
import DequeModule
public import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a datagram socket tells its user. All calls are made in-loop.
public protocol DatagramSocketDelegate: AnyObject {
    /// One datagram. The region is the delegate's, to decrypt in place and to slice.
    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress)
    /// Datagrams of one sender lying one behind the other, all of `size` bytes but the last. Comes instead of
    /// `datagramReceived`, which it calls for each unless the delegate knows better.
    func datagramsReceived(_ region: ReceivedRegion, size: Int, from address: SocketAddress)
    /// All datagrams of one batch were delivered.
    func datagramBatchEnded()
    /// After the queue was full: there is room again.
    func datagramQueueHasRoom()
    /// The socket is closed; nil when by its user.
    func datagramSocketClosed(_ error: SocketError?)
}

extension DatagramSocketDelegate {
    public func datagramsReceived(_ region: ReceivedRegion, size: Int, from address: SocketAddress) {
        var start = region.range.lowerBound
        repeat {
            let end = min(region.range.upperBound, start + max(1, size))
            datagramReceived(ReceivedRegion(storage: region.storage, range: start..<end), from: address)
            start = end
        } while start < region.range.upperBound
    }

    public func datagramBatchEnded() {}
    public func datagramQueueHasRoom() {}
    public func datagramSocketClosed(_ error: SocketError?) {}
}

/// How a datagram socket behaves.
public struct DatagramOptions: Sendable {
    /// Longer datagrams are dropped and counted, unless `joinsDatagrams` makes room for the longest.
    public var maximumDatagramSize = 2048
    /// Datagrams, joined ones counting as one, and bytes of them that are received before other work of the loop gets its turn.
    public var receivesPerTurn = 256
    public var receivedBytesPerTurn = 1 << 20
    /// Datagrams, and bytes of them, that wait to be sent; beyond that `send` refuses.
    public var queueLimit = 1024
    public var queuedBytesLimit = 4 * 1024 * 1024
    /// Bytes of the kernel's buffers, which for datagrams are small by default. The system has limits of its own
    /// (`net.core.rmem_max`, `net.core.wmem_max`), which bind only programs without privileges.
    public var sendBufferSize: Int? = 2 * 1024 * 1024
    public var receiveBufferSize: Int? = 2 * 1024 * 1024
    /// Lets several sockets of this user share the port.
    public var sharesPort = false
    /// Has the kernel join datagrams that arrive together, up to 64 KiB, and has it neither cut nor drop silently what is too
    /// long for the path.
    public var joinsDatagrams = false

    public init() {}
}

/// Why a datagram was not taken.
public enum DatagramSendError: Error, Hashable, Sendable, CustomStringConvertible {
    /// `datagramQueueHasRoom` will say when to go on.
    case queueFull(limit: Int)
    case queuedBytesFull(limit: Int)
    case closed

    public var description: String {
        switch self {
        case .queueFull(let limit): "\(limit) datagrams already wait to be sent"
        case .queuedBytesFull(let limit): "\(limit) bytes of datagrams already wait to be sent"
        case .closed: "the datagram socket is closed"
        }
    }
}

/// A UDP socket that receives and sends many datagrams per system call. In-loop only; the loop keeps it until closed.
public final class DatagramSocket: LoopResource {
    public let localAddress: SocketAddress
    /// What the kernel granted of the buffers asked for.
    public let kernelBuffers: KernelBuffers
    public var delegate: (any DatagramSocketDelegate)?
    /// Datagrams dropped because they were longer than `maximumDatagramSize`.
    public private(set) var truncatedCount = 0
    /// Datagrams that the system refused to send (unreachable, too long), which is how datagrams are.
    public private(set) var refusedCount = 0

    private struct Outgoing {
        let bytes: Bytes
        let address: SocketAddress
    }

    /// Room for datagrams that the kernel has joined, and how many such rooms a batch has while it joins none, or does.
    static let joinedSlot = 65_536
    static let joinedBatch = 32
    private static let joiningBatch = 4

    private let descriptor: CInt
    private let options: DatagramOptions
    private let poll: PollHandle
    private var queue = Deque<Outgoing>()
    private var queuedByteCount = 0
    private var isBlocked = false
    private var cutsDatagrams = true
    /// The kernel has joined datagrams of the last batch, which are then few and long.
    private var isJoining = false
    private var wasFull = false
    private var isClosed = false
    private var flushWork: DatagramFlush!

    /// Opens a socket on `address`. Set the delegate in the same turn.
    ///
    /// - Throws: `SocketError` that names the address.
    public static func bind(
        loop: EventLoop, address: SocketAddress, options: DatagramOptions = .init()
    ) throws(SocketError) -> DatagramSocket {
        try DatagramSocket(loop: loop, over: try BoundDatagramSocket.bind(at: address, options: options))
    }

    /// Takes over a bound socket. Set the delegate in the same turn.
    ///
    /// - Throws: `SocketError` that names the address, when the loop is shutting down or another has the socket.
    public init(loop: EventLoop, over bound: BoundDatagramSocket) throws(SocketError) {
        assert(loop.inLoop, "sockets are for the holder of the loop")
        localAddress = bound.address
        options = bound.options
        descriptor = bound.take()
        guard descriptor >= 0 else { throw SocketError(.bind, bound.address, code: EBADF) }
        guard let poll = PollHandle(loop: loop, descriptor: descriptor) else {
            Descriptor.close(descriptor)
            throw SocketError(.bind, bound.address, code: EBADF)
        }
        self.poll = poll
        kernelBuffers = Descriptor.buffers(descriptor)
        super.init(loop: loop)
        guard register() else {
            poll.close()
            Descriptor.close(descriptor)
            throw SocketError(.bind, bound.address, code: ESHUTDOWN)
        }
        flushWork = DatagramFlush(self)
        poll.handler = { [unowned self] failed, events in ready(failed, events) }
        poll.update(.readable)
    }

    /// Queues one datagram, to be sent with the others at the end of the turn.
    public func send(_ bytes: Bytes, to address: SocketAddress) throws(DatagramSendError) {
        guard !isClosed else { throw .closed }
        guard queue.count < options.queueLimit else {
            wasFull = true
            throw .queueFull(limit: options.queueLimit)
        }
        guard queuedByteCount + bytes.count <= options.queuedBytesLimit else {
            wasFull = true
            throw .queuedBytesFull(limit: options.queuedBytesLimit)
        }
        queue.append(Outgoing(bytes: bytes, address: address))
        queuedByteCount += bytes.count
        if !isBlocked { loop.atEndOfTurn(flushWork) }
    }

    /// Sends datagrams of `size` bytes each that lie one behind the other, the last of which may be shorter, by one system call
    /// where the kernel can do that. They are sent now and need not stay.
    ///
    /// - Returns: false when there is no room, and nothing was taken; `datagramQueueHasRoom` will say when to go on.
    public func sendNow(_ bytes: UnsafeRawBufferPointer, size: Int, to address: SocketAddress) -> Bool {
        guard !isClosed else { return true }
        guard !isBlocked, queue.isEmpty else {
            wasFull = true
            return false
        }
        guard cutsDatagrams || bytes.count <= size else { return sendOneByOne(bytes, size, address) }
        let code = address.withSockaddr { pointer, length in
            martlet_send_segments(descriptor, bytes.baseAddress, bytes.count, size, pointer, length)
        }
        switch code ?? -EINVAL {
        case 0: return true
        case -EAGAIN, -ENOBUFS:
            block()
            return false
        case -EIO, -EOPNOTSUPP, -EINVAL:
            // The network card or the kernel cannot cut datagrams.
            guard bytes.count > size else { break }
            cutsDatagrams = false
            return sendOneByOne(bytes, size, address)
        default: break
        }
        refusedCount += 1
        return true
    }

    /// Sends through the queue, which has room for a batch: it was empty.
    private func sendOneByOne(_ bytes: UnsafeRawBufferPointer, _ size: Int, _ address: SocketAddress) -> Bool {
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, start + max(1, size))
            let datagram = Bytes(copying: UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            do { try send(datagram, to: address) } catch { refusedCount += 1 }
            start = end
        }
        flush()
        return true
    }

    private func block() {
        isBlocked = true
        wasFull = true
        updateEvents()
    }

    /// Closes at once; what is queued is dropped.
    public func close() { end(nil) }

    override func closeForShutdown() {
        flush()
        end(SocketError(.close, localAddress, code: ESHUTDOWN))
    }

    private func end(_ error: SocketError?) {
        guard !isClosed else { return }
        isClosed = true
        poll.close()
        Descriptor.close(descriptor)
        queue = []
        flushWork.socket = nil
        unregister()
        let delegate = delegate
        self.delegate = nil
        delegate?.datagramSocketClosed(error)
    }

    private func updateEvents() {
        guard !isClosed else { return }
        poll.update(isBlocked ? [.readable, .writable] : .readable)
    }

    private func ready(_ failed: Bool, _ events: PollEvents) {
        if events.contains(.writable) {
            isBlocked = false
            loop.atEndOfTurn(flushWork)
        }
        if events.contains(.readable) || failed { receive() }
        updateEvents()
    }

    private func receive() {
        loop.noteBufferUse()
        let buffer = options.joinsDatagrams ? loop.joinedBuffer : loop.receiveBuffer
        let slot = options.joinsDatagrams ? Self.joinedSlot : max(64, min(options.maximumDatagramSize, 65_536))
        let batch = loop.scratchBatch()
        var remaining = options.receivesPerTurn
        var remainingBytes = options.receivedBytesPerTurn
        while remaining > 0, remainingBytes > 0, !isClosed {
            let wanted = min(batchLimit(slot), remaining)
            let space = buffer.space(minimum: slot * wanted, keeping: Bytes())
            let count = martlet_batch_receive(batch, descriptor, space.baseAddress, slot, CInt(wanted))
            guard count >= 0 else {
                // An error about a datagram sent earlier (ICMP); it is taken by this call.
                if -count == EAGAIN { return }
                refusedCount += 1
                remaining -= 1
                continue
            }
            if count == 0 { return }
            remainingBytes -= deliver(Int(count), slot: slot, batch: batch, from: buffer)
            remaining -= Int(count)
            if count < wanted { return }
        }
    }

    /// Where the kernel joins nothing, each datagram takes a room for many, and a batch needs many rooms to be worth the call.
    private func batchLimit(_ slot: Int) -> Int {
        guard options.joinsDatagrams else { return max(1, min(Int(MARTLET_BATCH_LIMIT), 65_536 / slot)) }
        return isJoining ? Self.joiningBatch : Self.joinedBatch
    }

    /// Hands over a batch; returns how many bytes it was.
    private func deliver(_ count: Int, slot: Int, batch: OpaquePointer, from buffer: ReceiveBuffer) -> Int {
        let lastLength = martlet_batch_length(batch, CInt(count - 1))
        let region = buffer.received(slot * (count - 1) + min(slot, lastLength))
        let start = region.range.lowerBound
        // Taken out before any is delivered: a delegate may use the batch.
        var arrivals: [(Range<Int>, Int, SocketAddress)] = []
        arrivals.reserveCapacity(count)
        var byteCount = 0
        isJoining = false
        for index in 0..<count {
            guard martlet_batch_is_truncated(batch, CInt(index)) == 0 else {
                truncatedCount += 1
                continue
            }
            var length: socklen_t = 0
            guard let pointer = martlet_batch_address(batch, CInt(index), &length),
                let address = SocketAddress(pointer.assumingMemoryBound(to: sockaddr.self), length: length)
            else { continue }
            let lower = start + slot * index
            let count = martlet_batch_length(batch, CInt(index))
            let size = martlet_batch_segment(batch, CInt(index))
            if size > 0, size < count { isJoining = true }
            byteCount += count
            arrivals.append((lower..<lower + count, size > 0 ? size : count, address))
        }
        for (range, size, address) in arrivals {
            guard let delegate else { return byteCount }
            let region = ReceivedRegion(storage: region.storage, range: range)
            delegate.datagramsReceived(region, size: size, from: address)
        }
        delegate?.datagramBatchEnded()
        return byteCount
    }

    fileprivate func flush() {
        guard !isClosed, !isBlocked else { return }
        let batch = loop.scratchBatch()
        while !queue.isEmpty, !isBlocked {
            let count = min(queue.count, Int(MARTLET_BATCH_LIMIT))
            sendBatch(batch, count)
        }
        updateEvents()
        if wasFull, queue.count <= options.queueLimit / 2, queuedByteCount <= options.queuedBytesLimit / 2 {
            wasFull = false
            delegate?.datagramQueueHasRoom()
        }
    }

    private func sendBatch(_ batch: OpaquePointer, _ count: Int) {
        for index in 0..<count {
            let outgoing = queue[queue.startIndex + index]
            outgoing.bytes.withUnsafeBytes { bytes in
                // The queue keeps the bytes until they are sent.
                let put: ()? = outgoing.address.withSockaddr { address, length in
                    martlet_batch_put(batch, CInt(index), bytes.baseAddress, bytes.count, address, length)
                }
                if put == nil { martlet_batch_put(batch, CInt(index), bytes.baseAddress, bytes.count, nil, 0) }
            }
        }
        let result = Int(martlet_batch_send(batch, descriptor, 0, CInt(count)))
        switch result {
        case 1...: drop(result)
        case Int(-EAGAIN), Int(-ENOBUFS): isBlocked = true
        default:
            // The first of the batch was refused; the rest may do better.
            refusedCount += 1
            drop(1)
        }
    }

    private func drop(_ count: Int) {
        for outgoing in queue.prefix(count) { queuedByteCount -= outgoing.bytes.count }
        queue.removeFirst(count)
    }
}

private final class DatagramFlush: LoopWork, @unchecked Sendable {
    var socket: DatagramSocket?

    init(_ socket: DatagramSocket) { self.socket = socket }

    override func run() { socket?.flush() }
}

extension EventLoop {
    /// Scratch space for batches of datagrams, shared by the loop's sockets.
    func scratchBatch() -> OpaquePointer {
        if let batch { return batch }
        // calloc of some KiB does not fail on systems that overcommit.
        let made = martlet_batch_create()!
        batch = made
        return made
    }
}
