import MartletCore

/// Where stream data is put as it comes out of packets, so that many packets make one event. An endpoint has one and lends it to
/// the connection that is receiving; an idle connection holds nothing.
final class QUICInbox {
    /// Shorter runs are copied, so that a few bytes that wait do not keep a block alive.
    private static let copyLimit = 4096

    private let pool: BufferPool
    private var block: BytesStorage?
    private var filled = 0
    /// The run being put together lies in `runStart..<filled`.
    private var runStart = 0

    init(pool: BufferPool) { self.pool = pool }

    var isEmpty: Bool { runStart == filled }

    /// Adds to the run as much as fits; returns how much. Nothing fits when the block is full: take the run, then go on.
    func append(_ bytes: UnsafeRawBufferPointer) -> Int {
        if isEmpty { prepare() }
        guard let block else { return 0 }
        let count = min(bytes.count, block.capacity - filled)
        guard count > 0 else { return 0 }
        // No slice covers what lies behind `filled`.
        UnsafeMutableRawBufferPointer(rebasing: block.mutableBytes[filled..<filled + count])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[0..<count]))
        filled += count
        return count
    }

    private func prepare() {
        if isKnownUniquelyReferenced(&block) { filled = 0 }
        if block == nil || filled == pool.blockSize {
            block = pool.take()
            filled = 0
        }
        runStart = filled
    }

    /// Ends the run.
    func take() -> Bytes {
        guard let block, runStart < filled else { return Bytes() }
        let range = runStart..<filled
        guard range.count < Self.copyLimit else {
            runStart = filled
            return block.slice(range)
        }
        // Nobody sees these bytes again, so their room is free.
        filled = runStart
        return Bytes(copying: UnsafeRawBufferPointer(rebasing: block.mutableBytes[range]))
    }

    /// Lets go of the block, at rest.
    func release() {
        guard isEmpty else { return }
        block = nil
        filled = 0
        runStart = 0
    }
}
