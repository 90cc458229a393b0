import CLMDB
import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// An LMDB database in a directory: one writer at a time, readers that never wait for it, all or nothing after a crash.
///
///     let storage = try StorageEnvironment(directory: path)
///     let peers = try storage.table("peers", keys: [UInt8].self, values: Bytes.self)
///     try storage.write { try peers.put(record, for: id, in: $0) }
///     let record = try storage.read { try peers.value(for: id, in: $0) }
///
/// All calls block (on the disk, and writers on one another): they belong on a `BlockingExecutor`. Opening maps the file
/// but reads next to nothing; memory is used as pages are touched, and the system takes it back when it needs it.
///
/// The map grows by itself: a write that finds it full is undone, the map is enlarged and the closure runs again. LMDB can
/// only be remapped while no transaction is open, so a `StorageSnapshot` must not be held for long.
public final class StorageEnvironment: @unchecked Sendable {
    // `database` is used under LMDB's own rules: handles are opened under `writer`, the map changes only inside
    // `gate.alone`, and a transaction is used by one thread at a time.
    let database: OpaquePointer
    public let directory: String
    let configuration: Configuration
    private let lock: DirectoryLock
    private let gate = GrowthGate()
    private let writer = Lock()
    /// The thread inside `write`, to name a nested write instead of hanging in it.
    private let writerThread = Atomic<UInt>(0)
    /// Read transactions that were reset and can be renewed without asking for a reader slot.
    private let idleReaders = Mutex<[Handle]>([])
    /// Guarded by `writer`.
    private var tables: [String: MDB_dbi] = [:]
    private var isMapFull = false
    private let isClosed = Atomic<Bool>(false)

    struct Handle: @unchecked Sendable { let pointer: OpaquePointer }

    /// Opens the database in `directory`, making it when there is none.
    ///
    /// - Throws: `inUse` when another process has it open, `diskFull`, `readOnly`, `permissionDenied`, `corrupted`,
    ///   `newerFormat`.
    public init(directory: String, configuration: Configuration = Configuration()) throws(StorageError) {
        self.directory = directory
        self.configuration = configuration
        if configuration.createsDirectory, mkdir(directory, 0o700) != 0, errno != EEXIST {
            throw StorageError(errno: errno, path: directory, operation: "create")
        }
        lock = try DirectoryLock(directory: directory)
        try Self.preallocateReaderTable(directory, readers: configuration.maximumReaders)
        // Everything that can throw comes before `database` is set, because `deinit` runs only after that.
        database = try Self.open(directory, configuration)
        try prepareFormat()
    }

    deinit { shutDown() }

    /// Ends the use of the database; what comes after throws `closed`. Waits a while for transactions to end.
    ///
    /// - Throws: `growthBlocked` when readers stay open; the memory stays mapped for them, new ones are refused.
    public func close() throws(StorageError) {
        if case .blocked(let readers) = gate.close(waiting: configuration.growthPatience.secondsAsDouble) {
            throw StorageError(code: .growthBlocked(readers: readers), path: directory, operation: "close")
        }
        writer.locked { shutDown() }
    }

    private func shutDown() {
        guard isClosed.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else { return }
        for reader in idleReaders.withLock({ idle in
            defer { idle = [] }; return idle
        }) { mdb_txn_abort(reader.pointer) }
        mdb_env_close(database)
        lock.release()
    }

    /// How large the map is and how much of it is in use, in bytes.
    public var usage: (mapByteCount: Int, usedByteCount: Int) {
        guard gate.enter() else { return (0, 0) }
        defer { gate.leave() }
        return currentUsage()
    }

    func failure(_ result: CInt, _ operation: String) -> StorageError {
        var error = StorageError(result: result, path: directory, operation: operation)
        switch error.code {
        case .tooManyReaders: error.code = .tooManyReaders(limit: configuration.maximumReaders)
        case .tooManyTables: error.code = .tooManyTables(limit: configuration.maximumTables)
        // LMDB reports a write that the disk took only in part as an input/output error.
        case .system(EIO) where isDiskFull: error.code = .diskFull
        default: break
        }
        return error
    }
}

extension StorageEnvironment {
    private var isDiskFull: Bool {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return false }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize) < 1 << 20
    }
}

// MARK: - Reading

extension StorageEnvironment {
    /// Runs `body` on a consistent view of the data, however long writers go on. What `body` reads is copied out.
    public func read<R>(_ body: (borrowing ReadTransaction) throws -> R) throws -> R {
        let transaction = try beginRead()
        return try body(transaction)
    }

    /// A consistent view to hold on to, whose values can be passed on without copying them.
    ///
    /// Hold it briefly: while it lives the database cannot grow its map, nor use again the pages that it sees.
    public func snapshot() throws(StorageError) -> StorageSnapshot {
        StorageSnapshot(try beginRead())
    }

    func beginRead() throws(StorageError) -> ReadTransaction {
        guard gate.enter() else {
            throw StorageError(code: .closed, path: directory, operation: "read")
        }
        if let idle = idleReaders.withLock({ $0.popLast() }) {
            if mdb_txn_renew(idle.pointer) == MDB_SUCCESS { return ReadTransaction(idle.pointer, of: self) }
            mdb_txn_abort(idle.pointer)
        }
        var pointer: OpaquePointer?
        let result = mdb_txn_begin(database, nil, UInt32(MDB_RDONLY), &pointer)
        guard result == MDB_SUCCESS, let pointer else {
            gate.leave()
            throw failure(result, "read")
        }
        return ReadTransaction(pointer, of: self)
    }

    func endRead(_ pointer: OpaquePointer) {
        mdb_txn_reset(pointer)
        let isKept = idleReaders.withLock { idle in
            guard idle.count < 8 else { return false }
            idle.append(Handle(pointer: pointer))
            return true
        }
        if !isKept { mdb_txn_abort(pointer) }
        gate.leave()
    }
}

// MARK: - Writing

extension StorageEnvironment {
    /// Runs `body` and makes all its changes durable at once, or none when it throws.
    ///
    /// `body` may run more than once (when the map has to grow), each time on the data as it was before. It must not call
    /// `write` itself. One write of many changes costs far less than many writes: each ends with a sync of the disk.
    ///
    /// - Throws: what `body` throws; `diskFull`, `sizeLimitReached`, `growthBlocked`.
    public func write<R>(_ body: (borrowing WriteTransaction) throws -> R) throws -> R {
        try exclusively {
            if isNearlyFull { try? grow(waiting: 0) }
            while true {
                if let result = try attempt(body) { return result }
                try grow(waiting: configuration.growthPatience.secondsAsDouble)
            }
        }
    }

    private func exclusively<R>(_ body: () throws -> R) throws -> R {
        let thread = currentThread()
        precondition(
            writerThread.load(ordering: .relaxed) != thread, "a write transaction inside another one of the same thread"
        )
        return try writer.locked {
            writerThread.store(thread, ordering: .relaxed)
            defer { writerThread.store(0, ordering: .relaxed) }
            guard !isClosed.load(ordering: .acquiring) else {
                throw StorageError(code: .closed, path: directory, operation: "write")
            }
            return try body()
        }
    }

    /// One try; nil when the map was too small.
    private func attempt<R>(_ body: (borrowing WriteTransaction) throws -> R) throws -> R? {
        guard gate.enter() else { throw StorageError(code: .closed, path: directory, operation: "write") }
        defer { gate.leave() }
        var pointer: OpaquePointer?
        let begun = mdb_txn_begin(database, nil, 0, &pointer)
        if begun == MDB_MAP_RESIZED { return nil }
        guard begun == MDB_SUCCESS, let pointer else { throw failure(begun, "write") }
        isMapFull = false
        let transaction = WriteTransaction(pointer, of: self)
        let result: R
        do {
            result = try body(transaction)
        } catch {
            transaction.abort()
            // The body may have failed on, or wrapped, or hidden the full map: it gets another run either way.
            if isMapFull { return nil }
            throw error
        }
        if isMapFull {
            transaction.abort()
            return nil
        }
        let committed = transaction.commit()
        if committed == MDB_MAP_FULL { return nil }
        guard committed == MDB_SUCCESS else { throw failure(committed, "commit") }
        return result
    }

    func noteMapFull() { isMapFull = true }
}

// MARK: - Tables

extension StorageEnvironment {
    /// The table called `name`, made when there is none. Open tables at the start: a transaction that is already running
    /// does not see a table opened after it began, and opening takes a write transaction.
    public func table<Key, Value>(
        _ name: String, keys: Key.Type = Key.self, values: Value.Type = Value.self
    ) throws(StorageError) -> Table<Key, Value> {
        do {
            return Table(name: name, handle: try handle(of: name), environment: self)
        } catch let error as StorageError {
            throw error
        } catch {
            preconditionFailure("opening a table threw \(error)")
        }
    }

    private func handle(of name: String) throws -> MDB_dbi {
        if let known = writer.locked({ tables[name] }) { return known }
        let opened: MDB_dbi = try write { transaction in
            var handle: MDB_dbi = 0
            let result = mdb_dbi_open(transaction.handle.pointer, name, UInt32(MDB_CREATE), &handle)
            if result == MDB_MAP_FULL { noteMapFull() }
            guard result == MDB_SUCCESS else { throw failure(result, "table \(name)") }
            return handle
        }
        writer.locked { tables[name] = opened }
        return opened
    }
}

// MARK: - Growth

extension StorageEnvironment {
    private func currentUsage() -> (mapByteCount: Int, usedByteCount: Int) {
        var information = MDB_envinfo()
        var statistics = MDB_stat()
        mdb_env_info(database, &information)
        mdb_env_stat(database, &statistics)
        return (Int(information.me_mapsize), (information.me_last_pgno + 1) * Int(statistics.ms_psize))
    }

    /// Three quarters in use: worth growing now if nobody is reading, rather than later in the middle of a write.
    private var isNearlyFull: Bool {
        let (map, used) = currentUsage()
        return used > map / 4 * 3 && map < configuration.maximumMapByteCount
    }

    /// Doubles the map, by at most 4 GiB at a time. Called by the writer, outside its transaction.
    private func grow(waiting seconds: Double) throws(StorageError) {
        let current = currentUsage().mapByteCount
        let target = min(current + min(current, 4 << 30), configuration.maximumMapByteCount) & ~0xFFFF
        guard target > current else {
            throw StorageError(
                code: .sizeLimitReached(byteCount: configuration.maximumMapByteCount), path: directory,
                operation: "grow")
        }
        let outcome = gate.alone(waiting: seconds) { () -> CInt in
            guard Self.hasAddressSpace(target) else { return ENOMEM }
            return mdb_env_set_mapsize(database, target)
        }
        switch outcome {
        case .done(MDB_SUCCESS): return
        case .done(let result): throw failure(result, "grow")
        case .blocked(let readers):
            throw StorageError(code: .growthBlocked(readers: readers), path: directory, operation: "grow")
        }
    }

    /// LMDB unmaps before it maps again, so a refusal must be known beforehand.
    private static func hasAddressSpace(_ byteCount: Int) -> Bool {
        let probe = mmap(nil, byteCount, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0)
        guard let probe, probe != MAP_FAILED else { return false }
        munmap(probe, byteCount)
        return true
    }
}

private func currentThread() -> UInt {
    #if canImport(Glibc)
        UInt(pthread_self())
    #else
        UInt(bitPattern: pthread_self())
    #endif
}
