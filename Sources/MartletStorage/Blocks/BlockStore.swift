public import MartletCore

/// Blocks of bytes under the multihash of their content.
///
/// The store does not hash: whoever puts a block has verified it. Keys are multihashes in binary, so a block is found
/// whatever codec a CID gives it.
public struct BlockStore: Sendable {
    private let table: Table<Multihash, Bytes>
    public let environment: StorageEnvironment

    /// Opens the store's table. One environment can hold several stores, by name.
    public init(_ environment: StorageEnvironment, name: String = "blocks") throws(StorageError) {
        self.environment = environment
        table = try environment.table(name)
    }

    // MARK: Inside a transaction

    /// A copy of the block.
    public func block<T: StorageTransaction & ~Copyable>(
        _ multihash: Multihash, in transaction: borrowing T
    ) throws(StorageError) -> Bytes? {
        try table.value(for: multihash, in: transaction)
    }

    public func contains<T: StorageTransaction & ~Copyable>(
        _ multihash: Multihash, in transaction: borrowing T
    ) throws(StorageError) -> Bool {
        try table.contains(multihash, in: transaction)
    }

    /// The block's size in bytes, nil when it is not here.
    public func byteCount<T: StorageTransaction & ~Copyable>(
        of multihash: Multihash, in transaction: borrowing T
    ) throws(StorageError) -> Int? {
        try table.byteCount(for: multihash, in: transaction)
    }

    /// Stores a block whose content was verified. A block that is already there stays: same hash, same content.
    public func put(
        _ block: Bytes, for multihash: Multihash, in transaction: borrowing WriteTransaction
    ) throws(StorageError) {
        try table.insert(block, for: multihash, in: transaction)
    }

    @discardableResult
    public func remove(
        _ multihash: Multihash, in transaction: borrowing WriteTransaction
    ) throws(StorageError) -> Bool {
        try table.removeValue(for: multihash, in: transaction)
    }

    public func count<T: StorageTransaction & ~Copyable>(in transaction: borrowing T) throws(StorageError) -> Int {
        try table.count(in: transaction)
    }

    /// The multihashes from `start` on, in order; at most `limit`.
    public func multihashes<T: StorageTransaction & ~Copyable>(
        from start: Multihash? = nil, limit: Int, in transaction: borrowing T
    ) throws -> [Multihash] {
        var found: [Multihash] = []
        try table.scanKeys(from: start, in: transaction) { key in
            guard found.count < limit else { return .stop }
            found.append(key)
            return .next
        }
        return found
    }

    // MARK: On its own

    /// A copy of the block, in a transaction of its own.
    public func block(_ multihash: Multihash) throws -> Bytes? {
        try environment.read { try block(multihash, in: $0) }
    }

    /// The block where it lies in the mapped file. The snapshot, and with it the map, is held until the bytes go.
    public func mappedBlock(_ multihash: Multihash, in snapshot: StorageSnapshot) throws(StorageError) -> Bytes? {
        try snapshot.bytes(for: multihash, in: table)
    }

    /// Stores verified blocks together, in one transaction.
    public func put(_ blocks: [(multihash: Multihash, block: Bytes)]) throws {
        try environment.write { transaction in
            for (multihash, block) in blocks { try put(block, for: multihash, in: transaction) }
        }
    }
}
