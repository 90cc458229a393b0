public import MartletCore

/// A consistent view of the data that lives as long as somebody holds it or a value read from it.
///
///     let block = try storage.snapshot().bytes(for: key, in: blocks)   // no copy: backed by the mapped file
///
/// Hold snapshots and their values briefly: meanwhile the database cannot grow its map.
public final class StorageSnapshot: @unchecked Sendable {
    // A transaction is used by one thread at a time: `lock` sees to it.
    private let transaction: ReadTransaction
    private let lock = Lock()

    init(_ transaction: consuming ReadTransaction) {
        self.transaction = transaction
    }

    public func read<R>(_ body: (borrowing ReadTransaction) throws -> R) rethrows -> R {
        try lock.locked { () throws -> R in try body(transaction) }
    }

    /// The stored form of a value, as a slice of the mapped file that keeps this snapshot alive.
    public func bytes<Key, Value>(for key: Key, in table: Table<Key, Value>) throws(StorageError) -> Bytes? {
        try lock.locked { () throws(StorageError) -> Bytes? in
            try table.withStoredValue(for: key, in: transaction) { (stored) -> Bytes in
                // The mapping cannot change while the transaction is open, and the storage keeps it open.
                guard let base = stored.baseAddress, stored.count > 0 else { return Bytes() }
                return BytesStorage(unowned: base, count: stored.count, keepingAlive: self).slice(0..<stored.count)
            }
        }
    }
}
