/// Where a connection puts the bytes of one turn, sealed and ready to send. The driver owns it and reuses it.
///
/// A value of one writer. `reserve` hands out contiguous room that the writer fills in place (a record is built and
/// encrypted where it will be sent from).
public struct TransmitBuffer: ~Copyable {
    public let storage: BytesStorage
    public private(set) var count = 0

    public init(storage: BytesStorage) {
        self.storage = storage
    }

    public var remaining: Int { storage.capacity - count }

    /// The next `size` bytes of room. They count as written only after `commit`.
    public func reserve(_ size: Int) -> UnsafeMutableRawBufferPointer {
        precondition(size <= remaining, "reserving \(size) of \(remaining) bytes")
        return UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[count..<count + size])
    }

    /// Counts the next `size` bytes as written.
    public mutating func commit(_ size: Int) {
        precondition(size <= remaining, "committing \(size) of \(remaining) bytes")
        count += size
    }

    /// Copies `bytes` to the end.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count).copyMemory(from: bytes)
        commit(bytes.count)
    }

    public mutating func append(_ bytes: Bytes) {
        let room = reserve(bytes.count)
        bytes.withUnsafeBytes { room.copyMemory(from: $0) }
        commit(bytes.count)
    }

    /// What was written so far.
    public var written: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: storage.mutableBytes[0..<count])
    }

    /// Forgets what was written.
    public mutating func clear() { count = 0 }
}
