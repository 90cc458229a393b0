public import MartletCore
import MartletRPC
import Synchronization

/// The items that a method of a Lattica node yields (`rpc_stream_iter`). For one task at a time.
///
///     for try await item in try await node.lattica.stream(peer, "Chat.complete", prompt) {
///         print(String(decoding: item.array, as: UTF8.self))
///     }
///
/// All of them arrive, in order: an item that is not asked for keeps the peer waiting in the end. Dropping the sequence, or
/// cancelling the task that reads it, cancels the call.
///
/// A Lattica node whose method raises an error after its first item ends the sequence as if it were complete: its protocol
/// has no way to tell.
public struct LatticaItems: AsyncSequence, Sendable {
    public typealias Element = Bytes

    private let source: LatticaItemSource

    init(_ call: LatticaOutboundCall, timeout: Duration) {
        source = LatticaItemSource(call, timeout: timeout)
    }

    /// The next item; nil after the last.
    ///
    /// - Throws: `RPCError`: what the peer reports, `.deadlineExceeded` when nothing comes for too long, `.unavailable` when
    ///   the peer is lost; `CancellationError`.
    public func next() async throws -> Bytes? { try await source.next() }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let source: LatticaItemSource
        public mutating func next() async throws -> Bytes? { try await source.next() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(source: source) }
}

/// What stands behind the items of one call.
private final class LatticaItemSource: Sendable {
    private let call: LatticaOutboundCall
    private let timeout: Duration
    private let isOver = Mutex(false)

    init(_ call: LatticaOutboundCall, timeout: Duration) {
        self.call = call
        self.timeout = timeout
    }

    func next() async throws -> Bytes? {
        if isOver.withLock({ $0 }) { return nil }
        let event: LatticaStreamClient.Event
        do {
            let call = call
            event =
                call.hasEvent
                ? try await call.next() : try await withLatticaTimeout(timeout) { try await call.next() }
        } catch {
            isOver.withLock { $0 = true }
            call.cancel()
            throw error is LatticaTimedOut ? LatticaFailure.timedOut(timeout, .maybeExecuted) : error
        }
        if case .item(_, let item) = event { return item }
        isOver.withLock { $0 = true }
        switch event {
        case .item, .ended, .result: return nil
        case .failed(_, let text): throw LatticaFailure.reported(text)
        case .tooLong: throw RPCError(.resourceExhausted, "an item beyond messageSize", outcome: .executed)
        case .cancelled: throw RPCError(.cancelled, "the call was cancelled", outcome: .maybeExecuted)
        }
    }
}
