import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Memory blocks of one size, used again instead of being given back to the system.
///
/// Any thread may take a block or let go of one. At most `idleLimit` blocks are kept idle; more are freed.
public final class BufferPool: Sendable {
    /// The size of every block in bytes.
    public let blockSize: Int
    /// How many blocks are kept while nobody uses them.
    public let idleLimit: Int
    private let idle: Mutex<[Block]>

    private struct Block: @unchecked Sendable { let base: UnsafeMutableRawPointer }

    public init(blockSize: Int, idleLimit: Int) {
        precondition(blockSize > 0 && blockSize <= Int(UInt32.max), "blocks of \(blockSize) bytes")
        self.blockSize = blockSize
        self.idleLimit = idleLimit
        idle = Mutex([])
    }

    deinit {
        idle.withLock { for block in $0 { free(block.base) } }
    }

    /// A block with undefined content; it returns here by itself when its last slice goes.
    public func take() -> BytesStorage {
        let reused = idle.withLock { $0.popLast() }
        // malloc never returns nil here short of exhaustion of the address space, which nobody can handle.
        let base = reused?.base ?? malloc(blockSize)!
        return BytesStorage(base: base, capacity: blockSize, origin: .pool(self))
    }

    /// How many blocks wait to be used again.
    public var idleCount: Int { idle.withLock { $0.count } }

    /// Frees the idle blocks, so that a node at rest holds no buffers.
    public func trim() {
        let blocks = idle.withLock { blocks in
            defer { blocks = [] }
            return blocks
        }
        for block in blocks { free(block.base) }
    }

    @usableFromInline
    func giveBack(_ base: UnsafeMutableRawPointer) {
        let block = Block(base: base)
        let kept = idle.withLock { blocks in
            guard blocks.count < idleLimit else { return false }
            blocks.append(block)
            return true
        }
        if !kept { free(base) }
    }
}
