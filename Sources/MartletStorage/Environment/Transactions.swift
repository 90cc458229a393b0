import CLMDB

/// What tables read from: a read or a write transaction.
public protocol StorageTransaction: ~Copyable {
    /// For tables only.
    var handle: TransactionHandle { get }
}

/// The database's own name for a transaction; means nothing outside this module.
public struct TransactionHandle {
    let pointer: OpaquePointer
    unowned(unsafe) let environment: StorageEnvironment
}

/// A consistent view of the data. It ends when it goes out of scope.
public struct ReadTransaction: ~Copyable, StorageTransaction {
    private let pointer: OpaquePointer
    private let environment: StorageEnvironment

    init(_ pointer: OpaquePointer, of environment: StorageEnvironment) {
        self.pointer = pointer
        self.environment = environment
    }

    deinit { environment.endRead(pointer) }

    public var handle: TransactionHandle { TransactionHandle(pointer: pointer, environment: environment) }
}

/// Changes that take effect together when the closure that was given this transaction returns.
public struct WriteTransaction: ~Copyable, StorageTransaction {
    private let pointer: OpaquePointer
    // Alive for as long as its `write` runs, and no transaction outlives that call.
    private unowned(unsafe) let environment: StorageEnvironment

    init(_ pointer: OpaquePointer, of environment: StorageEnvironment) {
        self.pointer = pointer
        self.environment = environment
    }

    deinit { mdb_txn_abort(pointer) }

    public var handle: TransactionHandle { TransactionHandle(pointer: pointer, environment: environment) }

    consuming func abort() {}

    /// LMDB frees the transaction whether the commit succeeds or not.
    consuming func commit() -> CInt {
        let result = mdb_txn_commit(pointer)
        discard self
        return result
    }
}
