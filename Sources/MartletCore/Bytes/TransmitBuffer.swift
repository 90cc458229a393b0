/// Where a connection puts the bytes of one turn, sealed and ready to send. The driver owns it and reuses it.
///
/// A value of one writer. `reserve` hands out contiguous room that the writer fills in place (a record is built and
/// encrypted where it will be sent from).
@frozen
public struct TransmitBuffer: ~Copyable {
    public let storage: BytesStorage
    @usableFromInline var used = 0

    /// How many bytes were written so far.
    @inlinable public var count: Int { used }

    @inlinable
    public init(storage: BytesStorage) {
        self.storage = storage
    }

    /// How many bytes still fit.
    @inlinable public var remaining: Int { storage.capacity - used }

    /// The next `size` bytes of room. They count as written only after `commit`.
    @inlinable
    public func reserve(_ size: Int) -> UnsafeMutableRawBufferPointer {
        precondition(size >= 0 && size <= remaining, "reserving \(size) of \(remaining) bytes")
        return UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[count..<count + size])
    }

    /// Counts the next `size` bytes as written.
    @inlinable
    public mutating func commit(_ size: Int) {
        precondition(size >= 0 && size <= remaining, "committing \(size) of \(remaining) bytes")
        used += size
    }

    /// Copies `bytes` to the end.
    @inlinable
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count).copyMemory(from: bytes)
        commit(bytes.count)
    }

    /// Copies `bytes` to the end.
    @inlinable
    public mutating func append(_ bytes: Bytes) {
        let room = reserve(bytes.count)
        bytes.withUnsafeBytes { room.copyMemory(from: $0) }
        commit(bytes.count)
    }

    /// What was written so far.
    @inlinable
    public var written: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: storage.mutableBytes[0..<count])
    }

    /// Forgets what was written.
    @inlinable
    public mutating func clear() { used = 0 }
}
