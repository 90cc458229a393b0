/// Where bytes from the network land. A loop has one and lends it to whichever connection is reading, so that an idle
/// connection holds no memory at all.
///
///     let space = buffer.space(minimum: 65_536, keeping: leftover)  // leftover of an unfinished record goes in front
///     let n = read(fd, space)
///     var region = buffer.received(n)                                // leftover and new bytes, contiguous and mutable
///
/// The region handed out belongs to the caller, who may change it (decrypt in place) and hand out slices of it.
public final class ReceiveBuffer {
    private let pool: BufferPool
    private var storage: BytesStorage?
    private var filled = 0
    private var regionStart = 0

    public init(pool: BufferPool) {
        self.pool = pool
    }

    /// Room for at least `minimum` more bytes, after a copy of `leftover`.
    public func space(minimum: Int, keeping leftover: Bytes) -> UnsafeMutableRawBufferPointer {
        let needed = leftover.count + minimum
        precondition(needed <= pool.blockSize, "a read of \(needed) bytes into blocks of \(pool.blockSize)")
        // With no slice left alive the block can be filled again from its start.
        if storage != nil, isKnownUniquelyReferenced(&storage) { filled = 0 }
        if storage == nil || storage!.capacity - filled < needed {
            storage = pool.take()
            filled = 0
        }
        let memory = storage!.mutableBytes
        regionStart = filled
        leftover.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: memory[filled...]).copyMemory(from: $0) }
        filled += leftover.count
        return UnsafeMutableRawBufferPointer(rebasing: memory[filled...])
    }

    /// Says that `count` bytes were put into the space last given; returns them with the leftover before them.
    public func received(_ count: Int) -> ReceivedRegion {
        filled += count
        precondition(filled <= storage!.capacity, "more bytes received than there was room for")
        return ReceivedRegion(storage: storage!, range: regionStart..<filled)
    }

    /// Lets go of the block, at rest.
    public func release() {
        storage = nil
        filled = 0
    }
}

/// Bytes just received: mutable by the one who processes them, until he hands out slices.
public struct ReceivedRegion {
    public let storage: BytesStorage
    public private(set) var range: Range<Int>

    public init(storage: BytesStorage, range: Range<Int>) {
        self.storage = storage
        self.range = range
    }

    /// A region of its own holding a copy of `bytes`: for tests and simulated networks.
    public init(copying bytes: some Collection<UInt8>) {
        let storage = BytesStorage(capacity: bytes.count)
        storage.mutableBytes.copyBytes(from: bytes)
        self.init(storage: storage, range: 0..<bytes.count)
    }

    @inlinable public var count: Int { range.count }

    /// The bytes, for reading and for changing in place.
    @inlinable
    public var mutableBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[range])
    }

    /// A slice, counted from the start of the region; its bytes must not change any more.
    @inlinable
    public func slice(_ subrange: Range<Int>) -> Bytes {
        storage.slice(range.lowerBound + subrange.lowerBound..<range.lowerBound + subrange.upperBound)
    }

    /// Drops the first `n` bytes from the region.
    public mutating func removeFirst(_ n: Int) {
        range = range.lowerBound + n..<range.upperBound
    }
}
