import CLMDB
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension StorageEnvironment {
    /// What can be chosen when a database is opened.
    public struct Configuration: Sendable {
        /// What a power failure may cost. A crash of the process costs nothing either way.
        public enum Durability: Sendable {
            /// A write returns when its data is on the disk.
            case full
            /// A power failure may undo the last writes, but never mixes old and new: one sync less per write.
            case lastWritesMayBeLost
        }

        /// Address space mapped at first (not memory and not disk). It grows as needed.
        public var initialMapByteCount = 64 << 20
        /// The size that the database never exceeds.
        public var maximumMapByteCount = 1 << 40
        /// Read transactions open at the same time, snapshots included.
        public var maximumReaders = 256
        public var maximumTables = 64
        public var durability = Durability.full
        /// Makes the directory (not its parents) when it is missing.
        public var createsDirectory = true
        /// How long a write waits for readers to end when the map has to grow.
        public var growthPatience = Duration.seconds(10)
        /// The version of the data's layout that this program writes.
        public var formatVersion: UInt64 = 1
        /// Brings older data up to date, in the transaction that also notes the new version. Given the version found.
        public var migrate: (@Sendable (StorageEnvironment, UInt64, borrowing WriteTransaction) throws -> Void)?

        public init() {}
    }

    /// LMDB maps its table of readers for writing; on a full disk, touching it would kill the process with SIGBUS. So its
    /// blocks are claimed first.
    static func preallocateReaderTable(_ directory: String, readers: Int) throws(StorageError) {
        let path = directory + "/lock.mdb"
        let file = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw StorageError(errno: errno, path: path, operation: "open") }
        defer { Glibc.close(file) }
        // 64 bytes for each reader after a header of a few cache lines.
        let result = posix_fallocate(file, 0, off_t((readers + 64) * 64))
        guard result == 0 || result == EOPNOTSUPP || result == EINVAL else {
            throw StorageError(errno: result, path: path, operation: "allocate")
        }
    }

    static func open(_ directory: String, _ configuration: Configuration) throws(StorageError) -> OpaquePointer {
        func check(_ result: CInt) throws(StorageError) {
            guard result == MDB_SUCCESS else {
                throw StorageError(result: result, path: directory, operation: "open")
            }
        }
        var created: OpaquePointer?
        try check(mdb_env_create(&created))
        guard let environment = created else {
            throw StorageError(errno: ENOMEM, path: directory, operation: "open")
        }
        do throws(StorageError) {
            let mapSize = min(configuration.initialMapByteCount, configuration.maximumMapByteCount)
            try check(mdb_env_set_mapsize(environment, max(mapSize, 1 << 16) & ~0xFFFF))
            try check(mdb_env_set_maxreaders(environment, UInt32(configuration.maximumReaders)))
            try check(mdb_env_set_maxdbs(environment, UInt32(configuration.maximumTables)))
            // Read transactions move between threads, so their slots must not belong to threads.
            var flags = MDB_NOTLS
            if case .lastWritesMayBeLost = configuration.durability { flags |= MDB_NOMETASYNC }
            try check(mdb_env_open(environment, directory, UInt32(flags), 0o600))
            return environment
        } catch {
            mdb_env_close(environment)
            throw error
        }
    }

    /// Compares the stored version of the layout with the program's.
    func prepareFormat() throws(StorageError) {
        let metadata = try table("martlet.metadata", keys: String.self, values: UInt64.self)
        let supported = configuration.formatVersion
        do {
            let found = try read { try metadata.value(for: "format", in: $0) }
            guard found != supported else { return }
            if let found, found > supported {
                throw StorageError(
                    code: .newerFormat(found: found, supported: supported), path: directory, operation: "open")
            }
            try write { transaction in
                if let found {
                    guard let migrate = configuration.migrate else {
                        throw StorageError(
                            code: .olderFormat(found: found, supported: supported), path: directory, operation: "open")
                    }
                    try migrate(self, found, transaction)
                }
                try metadata.put(supported, for: "format", in: transaction)
            }
        } catch let error as StorageError {
            throw error
        } catch {
            throw StorageError(
                code: .corrupted, path: directory, operation: "migrate", detail: String(describing: error))
        }
    }
}
