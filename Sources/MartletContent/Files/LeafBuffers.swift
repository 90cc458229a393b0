import MartletCore

/// Buffers that leaves are read into, with room for a header in front, by size.
struct LeafBuffers: Sendable {
    static let headRoom = 64

    private let pools: [BufferPool]

    /// At most `idleLimit` idle buffers of each size are kept.
    init(largestLeaf: Int, idleLimit: Int = 8) {
        var sizes: [Int] = []
        var size = 256 << 10
        while size < largestLeaf {
            sizes.append(size)
            size *= 2
        }
        sizes.append(max(largestLeaf, size))
        pools = sizes.map { BufferPool(blockSize: $0 + Self.headRoom, idleLimit: idleLimit) }
    }

    /// A buffer for a leaf of `byteCount` bytes. Small ones come from the heap.
    func take(_ byteCount: Int) -> BytesStorage {
        let needed = byteCount + Self.headRoom
        guard byteCount > 64 << 10, let pool = pools.first(where: { $0.blockSize >= needed }) else {
            return BytesStorage(capacity: needed)
        }
        return pool.take()
    }

    /// Frees what is idle.
    func trim() {
        for pool in pools { pool.trim() }
    }
}
