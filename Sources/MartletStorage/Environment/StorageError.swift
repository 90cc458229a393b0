import CLMDB

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Why the storage could not do what was asked: a code to act on, the path it concerns and the operation that failed.
public struct StorageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What went wrong, for programs.
    public enum Code: Hashable, Sendable {
        /// The file system that holds the path is full, or a quota is used up. Nothing of the transaction was kept.
        case diskFull
        /// The file system or the directory cannot be written to.
        case readOnly
        /// The process may not read or write the path.
        case permissionDenied
        /// The directory does not exist and was not to be created.
        case notFound
        /// Another process (or another environment of this one) has the directory open.
        case inUse(processID: Int32?)
        /// The database was written by a newer version of the program.
        case newerFormat(found: UInt64, supported: UInt64)
        /// The database is older than this version and no migration was given.
        case olderFormat(found: UInt64, supported: UInt64)
        /// The files are not a database, or are damaged.
        case corrupted
        /// More read transactions at once than the environment was opened for.
        case tooManyReaders(limit: Int)
        /// The database reached the configured largest size.
        case sizeLimitReached(byteCount: Int)
        /// The map had to grow, and read transactions stayed open too long to let it.
        case growthBlocked(readers: Int)
        /// A key is empty or longer than 511 bytes.
        case invalidKey(byteCount: Int)
        /// More tables than the environment was opened for.
        case tooManyTables(limit: Int)
        /// A table was first used inside a transaction that began before the table was opened.
        case tableNotVisible
        /// A stored key or value is not in the form that its table expects.
        case undecodable
        /// The environment was closed.
        case closed
        /// Any other failure of the system.
        case system(errno: Int32)
    }

    public var code: Code
    /// The file or directory that the failure is about.
    public var path: String
    /// What was being done, in a word or two: "open", "commit".
    public var operation: String
    /// More for people, where there is more to say.
    public var detail: String?

    public init(code: Code, path: String, operation: String, detail: String? = nil) {
        self.code = code
        self.path = path
        self.operation = operation
        self.detail = detail
    }

    public var description: String {
        let tail = detail.map { " (\($0))" } ?? ""
        return "\(operation) of \(path): \(codeText)\(tail)"
    }

    private var codeText: String {
        switch code {
        case .diskFull: return "the disk is full"
        case .readOnly: return "the directory or file system is read-only"
        case .permissionDenied: return "permission denied"
        case .notFound: return "no such directory"
        case .inUse(let processID):
            return processID.map { "already open in process \($0)" } ?? "already open elsewhere"
        case .newerFormat(let found, let supported):
            return "the data has format \(found), this program knows formats up to \(supported)"
        case .olderFormat(let found, let supported):
            return "the data has format \(found), this program needs format \(supported)"
        case .corrupted: return "not a database, or damaged"
        case .tooManyReaders(let limit): return "more than \(limit) readers at once"
        case .sizeLimitReached(let byteCount): return "the database reached its limit of \(byteCount) bytes"
        case .growthBlocked(let readers): return "cannot grow while \(readers) readers stay open"
        case .invalidKey(let byteCount): return "a key of \(byteCount) bytes (1 to 511 are possible)"
        case .tooManyTables(let limit): return "more than \(limit) tables"
        case .tableNotVisible: return "the table was opened after this transaction began"
        case .undecodable: return "a stored entry cannot be decoded"
        case .closed: return "the storage is closed"
        case .system(let number): return errorText(number)
        }
    }
}

extension StorageError {
    /// The error for a result of LMDB: a system error when positive, LMDB's own when negative.
    init(result: CInt, path: String, operation: String) {
        let code: Code
        if result > 0 {
            code = Code(errno: result)
        } else {
            switch result {
            case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_PANIC, MDB_VERSION_MISMATCH: code = .corrupted
            case MDB_READERS_FULL: code = .tooManyReaders(limit: 0)
            case MDB_DBS_FULL: code = .tooManyTables(limit: 0)
            case MDB_BAD_DBI: code = .tableNotVisible
            case MDB_BAD_VALSIZE: code = .invalidKey(byteCount: 0)
            case MDB_MAP_FULL: code = .sizeLimitReached(byteCount: 0)
            default: code = .system(errno: EIO)
            }
        }
        self.init(code: code, path: path, operation: operation, detail: String(cString: mdb_strerror(result)))
    }

    /// The error for a failed system call.
    init(errno number: Int32, path: String, operation: String) {
        self.init(code: Code(errno: number), path: path, operation: operation)
    }
}

extension StorageError.Code {
    init(errno number: Int32) {
        switch number {
        case ENOSPC, EDQUOT: self = .diskFull
        case EROFS: self = .readOnly
        case EACCES, EPERM: self = .permissionDenied
        case ENOENT, ENOTDIR: self = .notFound
        default: self = .system(errno: number)
        }
    }
}

/// The system's text for an error number.
package func errorText(_ number: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        // The XSI form, which fills the buffer and ends it with a zero byte.
        _ = strerror_r(number, buffer.baseAddress!, buffer.count)
        let text = String(cString: buffer.baseAddress!)
        return text.isEmpty ? "system error \(number)" : text
    }
}
