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
    /// Bytes of the block that were handed out, and must not be written again while a slice of the block lives.
    private var filled = 0
    /// The size of the leftover last copied behind them.
    private var kept = 0

    public init(pool: BufferPool) {
        self.pool = pool
    }

    /// Room for at least `minimum` more bytes, after a copy of `leftover`.
    public func space(minimum: Int, keeping leftover: Bytes) -> UnsafeMutableRawBufferPointer {
        let needed = leftover.count + minimum
        precondition(needed <= pool.blockSize, "a read of \(needed) bytes into blocks of \(pool.blockSize)")
        let block = block(withRoomFor: needed)
        let room = UnsafeMutableRawBufferPointer(rebasing: block.mutableBytes[filled...])
        leftover.withUnsafeBytes { room.copyMemory(from: $0) }
        kept = leftover.count
        return UnsafeMutableRawBufferPointer(rebasing: room[kept...])
    }

    /// Says that `count` bytes were put into the space last given; returns them with the leftover before them.
    ///
    /// A space that got nothing needs no call: the next one takes its place.
    public func received(_ count: Int) -> ReceivedRegion {
        guard let storage else { preconditionFailure("bytes received without a space for them") }
        let region = filled..<filled + kept + count
        precondition(count >= 0 && region.upperBound <= storage.capacity, "\(count) bytes received, room for fewer")
        filled = region.upperBound
        kept = 0
        return ReceivedRegion(storage: storage, range: region)
    }

    private func block(withRoomFor needed: Int) -> BytesStorage {
        // With no slice left alive the block can be filled again from its start.
        if isKnownUniquelyReferenced(&storage) { filled = 0 }
        if let storage, storage.capacity - filled >= needed { return storage }
        let fresh = pool.take()
        storage = fresh
        filled = 0
        return fresh
    }

    /// Lets go of the block, at rest.
    public func release() {
        storage = nil
        filled = 0
        kept = 0
    }
}

/// Bytes just received: mutable by the one who processes them, until he hands out slices.
@frozen
public struct ReceivedRegion {
    public let storage: BytesStorage
    /// Where the region lies in its storage.
    @inlinable public var range: Range<Int> { lower..<upper }
    @usableFromInline var lower: Int
    @usableFromInline let upper: Int

    @inlinable
    public init(storage: BytesStorage, range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= storage.capacity, "region outside its storage")
        self.storage = storage
        lower = range.lowerBound
        upper = range.upperBound
    }

    /// The region of a slice, to be changed where it is. For who was handed the slice and knows that nobody else has a part of
    /// it: what a stream received belongs to its handler.
    @inlinable
    public init?(owning slice: Bytes) {
        guard let storage = slice.storage else { return nil }
        self.init(storage: storage, range: Int(slice.lower)..<Int(slice.upper))
    }

    /// A region of its own holding a copy of `bytes`: for tests and simulated networks.
    public init(copying bytes: some Collection<UInt8>) {
        let storage = BytesStorage(capacity: bytes.count)
        storage.mutableBytes.copyBytes(from: bytes)
        self.init(storage: storage, range: 0..<bytes.count)
    }

    @inlinable public var count: Int { upper - lower }

    /// The bytes, for reading and for changing in place.
    @inlinable
    public var mutableBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[lower..<upper])
    }

    /// A slice, counted from the start of the region; its bytes must not change any more.
    @inlinable
    public func slice(_ subrange: Range<Int>) -> Bytes {
        precondition(subrange.lowerBound >= 0 && subrange.upperBound <= count, "slice outside its region")
        return storage.slice(lower + subrange.lowerBound..<lower + subrange.upperBound)
    }

    /// Drops the first `n` bytes from the region.
    @inlinable
    public mutating func removeFirst(_ n: Int) {
        precondition(n >= 0 && n <= count, "removing \(n) of \(count) bytes")
        lower += n
    }
}
