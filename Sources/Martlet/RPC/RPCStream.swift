public import MartletRPC

/// A call that is under way as a stream of messages.
///
///     let call = try await node.openCall(peer, "Model.generate", prompt)
///     for try await token in call { print(token.text) }
///
/// One task may read while another sends. A stream that is dropped before its end is cancelled.
public final class RPCStream: AsyncSequence, Sendable {
    public typealias Element = RPCMessage

    private let port: RPCPort

    init(_ port: RPCPort) { self.port = port }

    deinit { port.discard() }

    /// Sends a message; waits while the peer does not keep up.
    ///
    /// - Throws: `RPCError` when the call is over; `CancellationError`, and then the message may have been sent.
    public func send(_ message: RPCMessage) async throws { try await port.send(message) }

    /// Says that no further message follows. The answers go on.
    public func finish() { port.finish() }

    /// The next answer; nil when the call has ended well.
    ///
    /// - Throws: the `RPCError` that ended the call; `CancellationError`.
    public func next() async throws -> RPCMessage? { try await port.nextMessage() }

    /// Ends the call at once; the peer's handler is cancelled.
    public func cancel() { port.cancel() }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let stream: RPCStream
        public mutating func next() async throws -> RPCMessage? { try await stream.next() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(stream: self) }
}
