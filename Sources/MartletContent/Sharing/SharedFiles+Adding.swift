import MartletCore
import MartletIdentity
import MartletStorage
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension SharedFiles {
    /// Shares the file at `path` where it lies. The whole file is read and hashed once; sharing it again while it has not
    /// changed costs nothing, and after it has changed replaces what was shared.
    ///
    /// - Parameter progress: called from time to time while the file is hashed, on any thread.
    /// - Throws: `notFound`, `permissionDenied`, `notAFile`, `changedWhileReading`; the storage's errors.
    public func add(
        _ path: String, layout: FileLayout = FileLayout(), progress: (@Sendable (ImportProgress) -> Void)? = nil
    ) async throws -> SharedFile {
        let start = try await executor.run { [self] in try begin(path, layout) }
        let file: ReadableFile
        let identity: FileIdentity
        let id: UInt64
        switch start {
        case .unchanged(let shared): return shared
        case .new(let opened, let found, let number): (file, identity, id) = (opened, found, number)
        }
        do {
            let hashing = FileImport(
                file: file, byteCount: identity.byteCount, layout: layout, executor: executor, progress: progress)
            let root = try await hashing.run { batch in
                try await self.executor.run { try self.store(batch, id: id, layout: layout, identity.byteCount) }
            }
            return try await executor.run { [self] in
                if let difference = identity.difference(now: try file.identity()) {
                    throw ContentError(.changedWhileReading, "changed while it was read: \(difference)", path: path)
                }
                let shared = SharedFile(
                    id: id, path: file.path, root: root, layout: layout, identity: identity,
                    sharedAt: WallTime.systemNow(), state: .current)
                try finish(shared)
                return shared
            }
        } catch {
            // What cannot be cleaned up now is when the index is opened next.
            try? await executor.run { [self] in try purge(id) }
            throw error
        }
    }

    /// Shares a file that a fetch has just written and verified leaf by leaf, without reading it again. Nil when its graph
    /// is not of equal leaves; then `add` it.
    ///
    /// - Throws: `stale` when the file is not the one that was fetched any more.
    public func add(fetched: FetchResult) async throws -> SharedFile? {
        guard let layout = fetched.layout else { return nil }
        return try await executor.run { [self] in
            let path = try realPath(fetched.path)
            let file = try ReadableFile(path: path)
            let identity = try file.identity()
            if let difference = fetched.identity.difference(now: identity) {
                throw ContentError(.stale, "no longer what was fetched: \(difference)", path: path)
            }
            let id = try newID()
            var first = 0
            let all = fetched.manifest.leaves
            repeat {
                let count = min(4096, all.count - first)
                let batch = FileImport.Batch(
                    firstLeaf: UInt64(first), leaves: all[first..<first + count].map(\.digest),
                    nodes: first == 0 ? fetched.manifest.nodes : [])
                try store(batch, id: id, layout: layout, identity.byteCount)
                first += count
            } while first < all.count
            let shared = SharedFile(
                id: id, path: path, root: fetched.root, layout: layout, identity: identity,
                sharedAt: WallTime.systemNow(), state: .current)
            try finish(shared)
            return shared
        }
    }

    private enum Start: Sendable {
        case unchanged(SharedFile)
        case new(ReadableFile, FileIdentity, id: UInt64)
    }

    private func begin(_ path: String, _ layout: FileLayout) throws -> Start {
        let file = try ReadableFile(path: try realPath(path))
        var identity = try file.identity()
        if let known = try record(at: file.path), known.state == .current, known.layout == layout,
            known.identity == identity
        {
            return .unchanged(known)
        }
        // The system's file times move in steps. A write in the same step as the last one leaves no trace, so a file that
        // was written to just now is only read once the step is over.
        let now = WallTime.systemNow().nanosecondsSince1970
        if abs(now - max(identity.modified, identity.changed)) < 20_000_000 {
            usleep(20_000)
            identity = try file.identity()
        }
        return .new(file, identity, id: try newID())
    }

    private func newID() throws -> UInt64 {
        try storage.write { transaction in
            let id = (try counters.value(for: "file", in: transaction) ?? 0) + 1
            try counters.put(id, for: "file", in: transaction)
            try pending.put(NoValue(), for: id, in: transaction)
            return id
        }
    }

    private func store(_ batch: FileImport.Batch, id: UInt64, layout: FileLayout, _ byteCount: UInt64) throws {
        try storage.write { transaction in
            for (index, digest) in batch.leaves.enumerated() {
                guard let range = layout.leafRange(batch.firstLeaf + UInt64(index), of: byteCount) else { break }
                // A leaf that occurs twice is found at its first place.
                try leaves.insert(
                    LeafPlace(offset: range.offset, byteCount: UInt32(range.byteCount)),
                    for: DigestKey(digest.bytes, file: id), in: transaction)
            }
            for node in batch.nodes {
                try blocks.put(node.block, for: Multihash(node.digest), in: transaction)
                try nodes.put(NoValue(), for: DigestKey(node.digest.bytes, file: id), in: transaction)
            }
        }
    }

    /// Makes the file found, in one step with forgetting what was shared at its path before.
    private func finish(_ shared: SharedFile) throws {
        let previous = try storage.write { transaction -> SharedFile? in
            var previous: SharedFile?
            if let id = try paths.value(for: pathKey(shared.path), in: transaction) {
                previous = try files.value(for: id, in: transaction)
            }
            if let previous { try forget(previous, in: transaction) }
            try files.put(shared, for: shared.id, in: transaction)
            try paths.put(shared.id, for: pathKey(shared.path), in: transaction)
            try roots.put(NoValue(), for: DigestKey(shared.root.multihash.digest, file: shared.id), in: transaction)
            try pending.removeValue(for: shared.id, in: transaction)
            return previous
        }
        guard let previous else { return }
        opened.withLock { $0.forget(previous.id) }
        try purge(previous.id)
    }
}
