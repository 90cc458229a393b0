import CLMDB
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Keys and values of one kind each, in the order of the keys' bytes. Keys take 1 to 511 bytes.
public struct Table<Key: TableCodable, Value: TableCodable>: Sendable {
    public let name: String
    let handle: MDB_dbi
    let environment: StorageEnvironment

    init(name: String, handle: MDB_dbi, environment: StorageEnvironment) {
        self.name = name
        self.handle = handle
        self.environment = environment
    }

    // MARK: Reading

    public func value<T: StorageTransaction & ~Copyable>(
        for key: Key, in transaction: borrowing T
    ) throws(StorageError) -> Value? {
        try withStoredValue(for: key, in: transaction) { (stored) throws(StorageError) -> Value in try decode(stored) }
    }

    public func contains<T: StorageTransaction & ~Copyable>(
        _ key: Key, in transaction: borrowing T
    ) throws(StorageError) -> Bool {
        try withStoredValue(for: key, in: transaction) { _ in true } ?? false
    }

    /// The number of bytes that the value for `key` takes, nil without one.
    public func byteCount<T: StorageTransaction & ~Copyable>(
        for key: Key, in transaction: borrowing T
    ) throws(StorageError) -> Int? {
        try withStoredValue(for: key, in: transaction) { $0.count }
    }

    public func count<T: StorageTransaction & ~Copyable>(in transaction: borrowing T) throws(StorageError) -> Int {
        var statistics = MDB_stat()
        try check(mdb_stat(transaction.handle.pointer, handle, &statistics), "count")
        return statistics.ms_entries
    }

    /// Calls `body` with the stored value where it lies in the mapped file. The pointer means nothing afterwards.
    package func withStoredValue<T: StorageTransaction & ~Copyable, R>(
        for key: Key, in transaction: borrowing T, _ body: (UnsafeRawBufferPointer) throws(StorageError) -> R
    ) throws(StorageError) -> R? {
        let pointer = transaction.handle.pointer
        return try withKey(key) { (stored) throws(StorageError) -> R? in
            var value = MDB_val()
            let result = mdb_get(pointer, handle, stored, &value)
            if result == MDB_NOTFOUND { return nil }
            try check(result, "get")
            return try body(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size))
        }
    }

    // MARK: Writing

    /// Stores `value`, in place of what was there.
    public func put(_ value: Value, for key: Key, in transaction: borrowing WriteTransaction) throws(StorageError) {
        _ = try store(value, for: key, flags: 0, transaction.handle.pointer)
    }

    /// Stores `value` unless there is one. True when it was stored.
    @discardableResult
    public func insert(
        _ value: Value, for key: Key, in transaction: borrowing WriteTransaction
    ) throws(StorageError) -> Bool {
        try store(value, for: key, flags: UInt32(MDB_NOOVERWRITE), transaction.handle.pointer)
    }

    /// True when there was a value.
    @discardableResult
    public func removeValue(for key: Key, in transaction: borrowing WriteTransaction) throws(StorageError) -> Bool {
        let pointer = transaction.handle.pointer
        return try withKey(key) { (stored) throws(StorageError) -> Bool in
            let result = mdb_del(pointer, handle, stored, nil)
            if result == MDB_NOTFOUND { return false }
            try check(result, "delete")
            return true
        }
    }

    public func removeAll(in transaction: borrowing WriteTransaction) throws(StorageError) {
        try check(mdb_drop(transaction.handle.pointer, handle, 0), "delete")
    }

    private func store(
        _ value: Value, for key: Key, flags: UInt32, _ transaction: OpaquePointer
    ) throws(StorageError) -> Bool {
        try withKey(key) { (storedKey) throws(StorageError) -> Bool in
            try value.withEncodedBytes { (bytes) throws(StorageError) -> Bool in
                // LMDB only reads through the pointer; it is mutable because the C structure is used both ways.
                var stored = MDB_val(
                    mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
                let result = mdb_put(transaction, handle, storedKey, &stored, flags)
                if result == MDB_KEYEXIST { return false }
                try check(result, "put")
                return true
            }
        }
    }

    // MARK: Helpers

    func withKey<R>(
        _ key: Key, _ body: (UnsafeMutablePointer<MDB_val>) throws(StorageError) -> R
    ) throws(StorageError) -> R {
        try key.withEncodedBytes { (bytes) throws(StorageError) -> R in
            guard (1...511).contains(bytes.count) else {
                throw StorageError(
                    code: .invalidKey(byteCount: bytes.count), path: environment.directory, operation: "table \(name)")
            }
            var stored = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return try body(&stored)
        }
    }

    func check(_ result: CInt, _ operation: String) throws(StorageError) {
        guard result != MDB_SUCCESS else { return }
        if result == MDB_MAP_FULL { environment.noteMapFull() }
        throw environment.failure(result, "\(operation) in \(name)")
    }

    func decode<Content: TableCodable>(_ stored: UnsafeRawBufferPointer) throws(StorageError) -> Content {
        do {
            return try Content(decoding: stored.bytes)
        } catch {
            throw StorageError(
                code: .undecodable, path: environment.directory, operation: "get in \(name)",
                detail: error.description)
        }
    }
}
