/// Where the messages of a streaming call come from; what stands behind an `RPCReader`.
public protocol RPCMessageSource: AnyObject, Sendable {
    /// The next message, waiting for it; nil after the last.
    ///
    /// - Throws: `RPCError`, or `CancellationError` when the task is cancelled.
    func nextMessage() async throws -> RPCMessage?
}

/// Where the messages of a streaming call go to; what stands behind an `RPCWriter`.
public protocol RPCMessageSink: AnyObject, Sendable {
    /// Hands a message over, waiting while the other side is slow.
    ///
    /// - Throws: `RPCError`, or `CancellationError` when the task is cancelled.
    func send(_ message: RPCMessage) async throws
}

/// The messages that a caller sends to a client-streaming or bidirectional handler. For one task at a time.
///
///     service.clientStreaming("sum") { messages, context in
///         for try await message in messages { … }
///     }
///
/// A message makes room for more when it is taken, so a handler that reads slowly slows its caller.
public struct RPCReader: AsyncSequence, Sendable {
    private let source: any RPCMessageSource

    public init(_ source: any RPCMessageSource) { self.source = source }

    /// The next message; nil when the caller has finished.
    public func next() async throws -> RPCMessage? { try await source.nextMessage() }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let source: any RPCMessageSource
        public mutating func next() async throws -> RPCMessage? { try await source.nextMessage() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(source: source) }
}

/// Sends the messages of a server-streaming or bidirectional handler. For one task at a time.
public struct RPCWriter: Sendable {
    private let sink: any RPCMessageSink

    public init(_ sink: any RPCMessageSink) { self.sink = sink }

    /// Sends `message`; waits while the caller does not keep up.
    ///
    /// - Throws: `RPCError` when the call is over, such as after a cancellation.
    public func write(_ message: RPCMessage) async throws { try await sink.send(message) }
}
