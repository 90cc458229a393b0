import MartletCore
import MartletIdentity

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// How far the hashing of a file is.
public struct ImportProgress: Hashable, Sendable {
    public var doneByteCount: UInt64
    public var byteCount: UInt64
}

/// Hashes a file into its graph: spans of it on several threads of the blocking executor, in constant memory.
struct FileImport: Sendable {
    /// Leaves and nodes in the order in which they are complete.
    struct Batch: Sendable {
        var firstLeaf: UInt64 = 0
        var leaves: [Digest] = []
        var nodes: [DAGBuilder.Node] = []
    }

    let file: ReadableFile
    let byteCount: UInt64
    let layout: FileLayout
    let executor: any BlockingExecutor
    /// Spans that are hashed at the same time.
    var parallelism = max(1, min(4, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
    var progress: (@Sendable (ImportProgress) -> Void)?

    private var leavesPerSpan: Int { max(1, (8 << 20) / layout.leafByteCount) }

    /// Hashes everything and returns the root. `sink` gets batches of some thousand leaves at most.
    ///
    /// - Throws: `changedWhileReading` when the file is shorter than it was.
    func run(_ sink: @Sendable (Batch) async throws -> Void) async throws -> CID {
        let leafCount = Int(layout.leafCount(of: byteCount))
        let spanCount = (leafCount + leavesPerSpan - 1) / leavesPerSpan
        return try await withThrowingTaskGroup(of: (Int, [Digest]).self) { group in
            var started = 0
            func startNext() {
                guard started < spanCount else { return }
                let span = started
                started += 1
                group.addTask { (span, try await executor.run { try hash(span: span, leafCount: leafCount) }) }
            }
            for _ in 0..<parallelism { startNext() }
            var builder = DAGBuilder(layout: layout)
            var batch = Batch()
            // Spans that were finished before their turn: fewer than `parallelism`.
            var early: [Int: [Digest]] = [:]
            var taken = 0
            while taken < spanCount {
                guard let (span, digests) = try await group.next() else { break }
                early[span] = digests
                while let digests = early.removeValue(forKey: taken) {
                    for digest in digests {
                        let size = layout.leafRange(builder.leafCount, of: byteCount)?.byteCount ?? 0
                        builder.append(leaf: digest, byteCount: size) { batch.nodes.append($0) }
                        batch.leaves.append(digest)
                    }
                    taken += 1
                    startNext()
                    progress?(ImportProgress(doneByteCount: builder.byteCount, byteCount: byteCount))
                    if batch.leaves.count >= 4096 {
                        try await sink(batch)
                        batch = Batch(firstLeaf: builder.leafCount)
                    }
                }
            }
            let root = builder.finish { batch.nodes.append($0) }
            try await sink(batch)
            return root
        }
    }

    private func hash(span: Int, leafCount: Int) throws(ContentError) -> [Digest] {
        let first = span * leavesPerSpan
        let last = min(first + leavesPerSpan, leafCount)
        // Pieces that stay in the processor's cache between being read and being hashed.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
        defer { buffer.deallocate() }
        var hasher = SHA256.Hasher()
        var digests: [Digest] = []
        for leaf in first..<last {
            guard let (offset, size) = layout.leafRange(UInt64(leaf), of: byteCount) else { break }
            var done = 0
            while done < size {
                let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[0..<min(buffer.count, size - done)])
                guard try file.read(into: piece, at: offset + UInt64(done)) else {
                    throw ContentError(.changedWhileReading, "the file became shorter", path: file.path)
                }
                hasher.update(UnsafeRawBufferPointer(piece))
                done += piece.count
            }
            digests.append(hasher.finalize())
        }
        return digests
    }
}
