public import MartletConnection
public import MartletCore

/// Two connections joined by two pipes of bytes, which cut what passes into pieces that the seed decides.
public final class BytePipeHarness: MuxerHarness {
    public let dialer: MuxerEndpoint
    public let listener: MuxerEndpoint
    public private(set) var now = Instant(nanoseconds: 1_000_000_000)
    private let dialerStream: any ByteStreamConnection
    private let listenerStream: any ByteStreamConnection
    private var random: RandomSource
    private var toListener = BytePipe()
    private var toDialer = BytePipe()
    private let pieceSizes: ClosedRange<Int>
    private let bufferSizes: ClosedRange<Int>
    /// How long each step takes.
    public var stepTime = Duration.microseconds(10)
    /// The size of every read at most, as a socket has it.
    private let readLimit = 256 * 1024

    /// - Parameters:
    ///   - pieceSizes: how many bytes a side receives at a time.
    ///   - bufferSizes: the sizes of the transmit buffers.
    public init(
        dialer: any ByteStreamConnection, listener: any ByteStreamConnection, seed: UInt64,
        pieceSizes: ClosedRange<Int> = 1...300_000, bufferSizes: ClosedRange<Int> = 524_288...524_288
    ) {
        self.dialer = MuxerEndpoint(dialer)
        self.listener = MuxerEndpoint(listener)
        dialerStream = dialer
        listenerStream = listener
        random = RandomSource(seed: seed)
        self.pieceSizes = pieceSizes
        self.bufferSizes = bufferSizes
    }

    /// Bytes that the dialer has sent and the listener not received.
    public var bytesToListener: Int { toListener.count }

    public func step() -> Bool {
        now = now + stepTime
        var moved = transmit(dialer, dialerStream, &toListener)
        moved = transmit(listener, listenerStream, &toDialer) || moved
        moved = receive(&toListener, listener, listenerStream) || moved
        moved = receive(&toDialer, dialer, dialerStream) || moved
        return moved
    }

    public func advance(by time: Duration) {
        now = now + time
        for endpoint in [dialer, listener] {
            if let deadline = endpoint.connection.deadline, deadline <= now {
                endpoint.connection.handleTimeout(now: now)
            }
            endpoint.drain(now: now)
        }
    }

    /// Lets time pass from deadline to deadline, delivering all in between.
    public func advanceThroughDeadlines(by time: Duration) {
        let end = now + time
        while true {
            settle()
            let next = [dialer, listener].compactMap { $0.connection.deadline }.min() ?? end
            guard next < end else { break }
            advance(by: max(.nanoseconds(1), next - now))
        }
        if now < end { advance(by: end - now) }
        settle()
    }

    /// Puts bytes into the pipe to the listener that the dialer did not send.
    public func inject(_ bytes: [UInt8]) { bytes.withUnsafeBytes { toListener.append($0) } }

    /// Changes what is under way to the listener.
    public func tamperOnTheWayToListener(_ change: (inout [UInt8]) -> Void) { toListener.change(change) }

    /// Moves what a side has to send into the pipe, buffer by buffer.
    private func transmit(
        _ endpoint: MuxerEndpoint, _ connection: any ByteStreamConnection, _ pipe: inout BytePipe
    ) -> Bool {
        endpoint.drain(now: now)
        guard endpoint.connection.hasPendingTransmit else { return false }
        let size = Int.random(in: bufferSizes, using: &random)
        var buffer = TransmitBuffer(storage: BytesStorage(capacity: size))
        connection.transmit(into: &buffer, now: now)
        pipe.append(buffer.written)
        endpoint.drain(now: now)
        return buffer.count > 0
    }

    private func receive(
        _ pipe: inout BytePipe, _ endpoint: MuxerEndpoint, _ connection: any ByteStreamConnection
    ) -> Bool {
        guard pipe.count > 0 else { return false }
        let size = min(pipe.count, readLimit, Int.random(in: pieceSizes, using: &random))
        let leftover = connection.leftover
        let storage = BytesStorage(capacity: leftover.count + size)
        leftover.withUnsafeBytes { storage.mutableBytes.copyMemory(from: $0) }
        pipe.move(size, to: UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[leftover.count...]))
        connection.receive(ReceivedRegion(storage: storage, range: 0..<storage.capacity), now: now)
        endpoint.drain(now: now)
        return true
    }
}

/// Bytes under way in one direction.
struct BytePipe {
    private var bytes: [UInt8] = []
    private var start = 0

    var count: Int { bytes.count - start }

    mutating func append(_ more: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: more)
    }

    mutating func move(_ count: Int, to target: UnsafeMutableRawBufferPointer) {
        bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
        start += count
        if start == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            start = 0
        } else if start > 1 << 20 {
            bytes.removeFirst(start)
            start = 0
        }
    }

    mutating func change(_ body: (inout [UInt8]) -> Void) {
        var waiting = Array(bytes[start...])
        body(&waiting)
        bytes = waiting
        start = 0
    }
}
