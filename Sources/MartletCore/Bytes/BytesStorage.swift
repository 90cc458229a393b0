#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A region of memory that slices (`Bytes`) share; it is given back when the last slice goes.
///
/// One writer may still fill the part of the region that no slice covers yet. That is what makes it `@unchecked
/// Sendable`: bytes inside a slice never change again, and bytes outside every slice are seen by the writer only.
public final class BytesStorage: @unchecked Sendable {
    @usableFromInline
    enum Origin {
        case heap
        case pool(BufferPool)
        case owner(AnyObject)
    }

    @usableFromInline let base: UnsafeMutableRawPointer
    /// The size of the region in bytes.
    public let capacity: Int
    @usableFromInline let origin: Origin

    @usableFromInline
    init(base: UnsafeMutableRawPointer, capacity: Int, origin: Origin) {
        self.base = base
        self.capacity = capacity
        self.origin = origin
    }

    /// Fresh memory from the heap, its content undefined.
    public convenience init(capacity: Int) {
        precondition(capacity >= 0 && capacity <= Int(UInt32.max), "storage of \(capacity) bytes")
        // malloc never returns nil here short of exhaustion of the address space, which nobody can handle.
        self.init(base: malloc(max(capacity, 1))!, capacity: capacity, origin: .heap)
    }

    /// Memory that somebody else owns (a mapped file, a database value) and that stays valid while `owner` lives.
    public convenience init(unowned base: UnsafeRawPointer, count: Int, keepingAlive owner: AnyObject) {
        precondition(count >= 0 && count <= Int(UInt32.max), "storage of \(count) bytes")
        self.init(base: UnsafeMutableRawPointer(mutating: base), capacity: count, origin: .owner(owner))
    }

    deinit {
        switch origin {
        case .heap: free(base)
        case .pool(let pool): pool.giveBack(base)
        case .owner: break
        }
    }

    /// The whole region. Only the writer may call this, and only to change bytes that no slice covers.
    @inlinable
    public var mutableBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base, count: capacity)
    }

    /// A slice of the region; from now on its bytes must not change.
    @inlinable
    public func slice(_ range: Range<Int>) -> Bytes {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity, "slice outside its storage")
        if range.isEmpty { return Bytes() }
        return Bytes(
            storage: self, lower: UInt32(truncatingIfNeeded: range.lowerBound),
            upper: UInt32(truncatingIfNeeded: range.upperBound))
    }
}
