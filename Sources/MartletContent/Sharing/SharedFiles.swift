public import MartletCore
import MartletIdentity
public import MartletStorage
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Files that are shared where they lie: hashed once and never copied. The database holds where each leaf is.
///
///     let shared = try await SharedFiles.open(storage, executor: pool)
///     let file = try await shared.add("/models/model.safetensors")
///     print(file.root)
///
/// Before and after every read the file is compared with what it was when it was shared; one that has changed is marked
/// stale and is not served any more. The comparison sees what the file system notes: writes change the times.
public final class SharedFiles: Sendable {
    public let storage: StorageEnvironment
    public let blocks: BlockStore
    let executor: any BlockingExecutor
    /// Told about each share that was found changed, on a thread that may block.
    let staleHandler: (@Sendable (SharedFile) -> Void)?

    let files: Table<UInt64, SharedFile>
    /// The SHA-256 of a path, because paths can be longer than keys.
    let paths: Table<[UInt8], UInt64>
    let roots: Table<DigestKey, NoValue>
    let leaves: Table<DigestKey, LeafPlace>
    let nodes: Table<DigestKey, NoValue>
    /// Files of which only some entries are in the tables: being added, or being removed.
    let pending: Table<UInt64, NoValue>
    let counters: Table<String, UInt64>
    let opened = Mutex(OpenShares())

    /// Opens the index in `storage`. Blocks: call `open` where that is not allowed.
    public init(
        _ storage: StorageEnvironment, executor: any BlockingExecutor,
        staleHandler: (@Sendable (SharedFile) -> Void)? = nil
    ) throws {
        self.storage = storage
        self.executor = executor
        self.staleHandler = staleHandler
        blocks = try BlockStore(storage)
        files = try storage.table("share.files")
        paths = try storage.table("share.paths")
        roots = try storage.table("share.roots")
        leaves = try storage.table("share.leaves")
        nodes = try storage.table("share.nodes")
        pending = try storage.table("share.pending")
        counters = try storage.table("share.counters")
        // What a crash left half done.
        for id in try storage.read({ try pending.keys(in: $0) }) { try purge(id) }
    }

    /// Opens the index in `storage`.
    public static func open(
        _ storage: StorageEnvironment, executor: any BlockingExecutor,
        staleHandler: (@Sendable (SharedFile) -> Void)? = nil
    ) async throws -> SharedFiles {
        try await executor.run { try SharedFiles(storage, executor: executor, staleHandler: staleHandler) }
    }

    // MARK: Listing

    /// All shares by the order in which they were added.
    /// - Parameter checking: looks at each file and marks those stale that have changed.
    public func list(checking: Bool = false) async throws -> [SharedFile] {
        try await executor.run { [self] in
            var found: [SharedFile] = []
            try storage.read { transaction in
                try files.scan(in: transaction) { _, file in
                    found.append(file)
                    return .next
                }
            }
            guard checking else { return found }
            for index in found.indices where found[index].state == .current {
                if let reason = staleness(of: found[index]) {
                    try markStale(found[index], reason)
                    found[index].state = .stale(reason)
                }
            }
            return found
        }
    }

    /// The shares of the content `root`.
    public func files(of root: CID) async throws -> [SharedFile] {
        try await executor.run { [self] in try records(of: root) }
    }

    // MARK: Removing

    /// Stops sharing the file at `path`. The file itself is not touched.
    ///
    /// - Throws: `notShared`.
    public func remove(path: String) async throws {
        try await executor.run { [self] in
            // A file that is gone has no real path any more; then the path is taken as given.
            let known = (try? realPath(path)) ?? path
            guard let file = try record(at: known) ?? record(at: path) else {
                throw ContentError(.notShared, "not shared", path: path)
            }
            try remove(file)
        }
    }

    /// Stops sharing every file whose content is `root`.
    ///
    /// - Throws: `notShared`.
    public func remove(root: CID) async throws {
        try await executor.run { [self] in
            let found = try records(of: root)
            guard !found.isEmpty else { throw ContentError(.notShared, "\(root) is not shared") }
            for file in found { try remove(file) }
        }
    }

    private func remove(_ file: SharedFile) throws {
        try storage.write { transaction in
            try forget(file, in: transaction)
            if try paths.value(for: pathKey(file.path), in: transaction) == file.id {
                try paths.removeValue(for: pathKey(file.path), in: transaction)
            }
        }
        opened.withLock { $0.forget(file.id) }
        try purge(file.id)
    }

    /// From here on the file is not found by its root; `purge` removes the rest.
    func forget(_ file: SharedFile, in transaction: borrowing WriteTransaction) throws {
        try files.removeValue(for: file.id, in: transaction)
        try roots.removeValue(for: DigestKey(file.root.multihash.digest, file: file.id), in: transaction)
        try pending.put(NoValue(), for: file.id, in: transaction)
    }

    /// Removes all entries of a file that is not shared (any more), in steps, so that no transaction gets large.
    func purge(_ id: UInt64) throws {
        try purge(id, from: leaves) { _, _ in }
        try purge(id, from: nodes) { key, transaction in
            let isElsewhere = try !nodes.keys(prefix: key.digest, limit: 1, in: transaction).isEmpty
            guard !isElsewhere else { return }
            try blocks.remove(Multihash(code: .sha2_256, digest: key.digest), in: transaction)
        }
        try storage.write { transaction in _ = try pending.removeValue(for: id, in: transaction) }
    }

    private func purge<Value>(
        _ id: UInt64, from table: Table<DigestKey, Value>,
        _ removed: (DigestKey, borrowing WriteTransaction) throws -> Void
    ) throws {
        var start: DigestKey?
        while true {
            var found: [DigestKey] = []
            var last: DigestKey?
            var seen = 0
            try storage.read { transaction in
                try table.scanKeys(from: start, in: transaction) { key in
                    last = key
                    seen += 1
                    if key.fileID == id { found.append(key) }
                    return seen < 50_000 && found.count < 4096 ? .next : .stop
                }
            }
            if !found.isEmpty {
                try storage.write { transaction in
                    for key in found {
                        try table.removeValue(for: key, in: transaction)
                        try removed(key, transaction)
                    }
                }
            }
            // The next part begins with the last key of this one, which is harmless.
            guard let last, last != start else { return }
            start = last
        }
    }

    // MARK: Records

    func records(of root: CID) throws -> [SharedFile] {
        try storage.read { transaction in
            var found: [SharedFile] = []
            for key in try roots.keys(prefix: root.multihash.digest, limit: 64, in: transaction) {
                guard let file = try files.value(for: key.fileID, in: transaction), file.root == root else { continue }
                found.append(file)
            }
            return found
        }
    }

    func record(at path: String) throws -> SharedFile? {
        try storage.read { transaction in
            guard let id = try paths.value(for: pathKey(path), in: transaction) else { return nil }
            return try files.value(for: id, in: transaction)
        }
    }

    func pathKey(_ path: String) -> [UInt8] { SHA256.hash(Array(path.utf8)).bytes }

    /// The path without symbolic links.
    func realPath(_ path: String) throws(ContentError) -> String {
        guard let resolved = realpath(path, nil) else { throw ContentError(errno: errno, path: path, doing: "open") }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    // MARK: Staleness

    /// Why the file is not what was shared; nil when it is.
    func staleness(of file: SharedFile) -> String? {
        do throws(ContentError) {
            return file.identity.difference(now: try ReadableFile(path: file.path).identity())
        } catch {
            return error.code == .notFound ? "it is gone" : error.message
        }
    }

    func markStale(_ file: SharedFile, _ reason: String) throws {
        opened.withLock { $0.forget(file.id) }
        var stale = file
        stale.state = .stale(String(reason.prefix(1000)))
        let changed = try storage.write { transaction -> Bool in
            guard let known = try files.value(for: file.id, in: transaction), known.state == .current else {
                return false
            }
            try files.put(stale, for: file.id, in: transaction)
            return true
        }
        if changed { staleHandler?(stale) }
    }
}
