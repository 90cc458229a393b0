import CLMDB
import MartletCore

/// Whether a scan goes on.
public enum ScanStep: Sendable {
    case next
    case stop
}

extension Table {
    /// Calls `body` with the entries from `start` (or the first) on, in key order, until it says stop.
    ///
    /// `body` must not write to the table; collect what is to change first.
    public func scan<T: StorageTransaction & ~Copyable>(
        from start: Key? = nil, in transaction: borrowing T, _ body: (Key, Value) throws -> ScanStep
    ) throws {
        let first: [UInt8] = if let start { try bytes(of: start) } else { [] }
        try walk(transaction.handle.pointer, from: first) { key, value in
            try body(decode(key), decode(value))
        }
    }

    /// The entries whose keys lie in `range`, in key order.
    public func scan<T: StorageTransaction & ~Copyable>(
        _ range: Range<Key>, in transaction: borrowing T, _ body: (Key, Value) throws -> ScanStep
    ) throws where Key: Comparable {
        let end = try bytes(of: range.upperBound)
        try walk(transaction.handle.pointer, from: try bytes(of: range.lowerBound)) { key, value in
            guard key.lexicographicallyPrecedes(end) else { return .stop }
            return try body(decode(key), decode(value))
        }
    }

    /// The entries whose encoded keys begin with `prefix`, in key order.
    public func scan<T: StorageTransaction & ~Copyable>(
        prefix: [UInt8], in transaction: borrowing T, _ body: (Key, Value) throws -> ScanStep
    ) throws {
        try walk(transaction.handle.pointer, from: prefix) { key, value in
            guard key.starts(with: prefix) else { return .stop }
            return try body(decode(key), decode(value))
        }
    }

    /// Calls `body` with the keys from `start` (or the first) on, without touching their values.
    public func scanKeys<T: StorageTransaction & ~Copyable>(
        from start: Key? = nil, in transaction: borrowing T, _ body: (Key) throws -> ScanStep
    ) throws {
        let first: [UInt8] = if let start { try bytes(of: start) } else { [] }
        try walk(transaction.handle.pointer, from: first) { key, _ in try body(decode(key)) }
    }

    /// The keys that begin with `prefix`, without touching their values; at most `limit`.
    public func keys<T: StorageTransaction & ~Copyable>(
        prefix: [UInt8] = [], limit: Int = .max, in transaction: borrowing T
    ) throws -> [Key] {
        var found: [Key] = []
        try walk(transaction.handle.pointer, from: prefix) { key, _ in
            guard found.count < limit, key.starts(with: prefix) else { return .stop }
            found.append(try decode(key))
            return .next
        }
        return found
    }

    /// The last entry, nil in an empty table.
    public func last<T: StorageTransaction & ~Copyable>(in transaction: borrowing T) throws -> (key: Key, value: Value)?
    {
        let cursor = try Cursor(transaction.handle.pointer, handle)
        guard let entry = try cursor.move(MDB_LAST) else { return nil }
        return (try decode(entry.key), try decode(entry.value))
    }

    /// Removes all entries whose encoded keys begin with `prefix` and says how many there were.
    @discardableResult
    public func removeAll(prefix: [UInt8], in transaction: borrowing WriteTransaction) throws -> Int {
        let cursor = try Cursor(transaction.handle.pointer, handle)
        var removed = 0
        var entry = try cursor.seek(prefix)
        while let found = entry, found.key.starts(with: prefix) {
            try check(cursor.delete(), "delete")
            removed += 1
            // After a deletion LMDB's "next" is the entry that followed the deleted one.
            entry = try cursor.move(MDB_NEXT)
        }
        return removed
    }

    private func bytes(of key: Key) throws(StorageError) -> [UInt8] {
        try key.withEncodedBytes { (bytes) throws(StorageError) -> [UInt8] in Array(bytes) }
    }

    private func walk(
        _ transaction: OpaquePointer, from start: [UInt8],
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> ScanStep
    ) throws {
        let cursor = try Cursor(transaction, handle)
        var entry = try cursor.seek(start)
        while let found = entry {
            if case .stop = try body(found.key, found.value) { return }
            entry = try cursor.move(MDB_NEXT)
        }
    }
}

/// LMDB's cursor, closed when it goes out of scope, which is always before its transaction ends.
private struct Cursor: ~Copyable {
    typealias Entry = (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)

    private let pointer: OpaquePointer

    init(_ transaction: OpaquePointer, _ table: MDB_dbi) throws {
        var opened: OpaquePointer?
        let result = mdb_cursor_open(transaction, table, &opened)
        guard result == MDB_SUCCESS, let opened else {
            throw StorageError(result: result, path: "table", operation: "scan")
        }
        pointer = opened
    }

    deinit { mdb_cursor_close(pointer) }

    /// The first entry whose key is `start` or follows it.
    func seek(_ start: [UInt8]) throws -> Entry? {
        guard !start.isEmpty else { return try move(MDB_FIRST) }
        return try start.withUnsafeBytes { bytes in
            var key = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return try get(&key, MDB_SET_RANGE)
        }
    }

    func move(_ operation: MDB_cursor_op) throws -> Entry? {
        var key = MDB_val()
        return try get(&key, operation)
    }

    func delete() -> CInt { mdb_cursor_del(pointer, 0) }

    private func get(_ key: inout MDB_val, _ operation: MDB_cursor_op) throws -> Entry? {
        var value = MDB_val()
        let result = mdb_cursor_get(pointer, &key, &value, operation)
        if result == MDB_NOTFOUND { return nil }
        guard result == MDB_SUCCESS else { throw StorageError(result: result, path: "table", operation: "scan") }
        return (
            UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size),
            UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
        )
    }
}
