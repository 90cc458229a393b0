/// A two-way stream of bytes with flow control: what application protocols are written against.
///
/// A mesh stream is one; tests use a pair in memory. Reading and writing may go on at the same time, each by one task.
public protocol ByteStream: Sendable {
    /// The next bytes, waiting for them when there are none; nil once the other side has finished.
    ///
    /// - Throws: when the stream or its connection was reset.
    func read() async throws -> Bytes?

    /// Hands `bytes` over for sending, waiting while too much is queued (back-pressure).
    ///
    /// - Throws: when the other side refuses more, or the stream or its connection was reset.
    func write(_ bytes: Bytes) async throws

    /// Says that nothing more will be written. Reading goes on.
    func finish() async throws

    /// Ends both directions at once; the other side sees a reset. Never waits.
    func reset()
}

/// Runs code that blocks (file reads, hashing, fsync) on threads where blocking hurts nobody.
public protocol BlockingExecutor: Sendable {
    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T
}
