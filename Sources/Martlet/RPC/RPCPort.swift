import MartletCore
import MartletRPC
import Synchronization

/// A call as a stream of messages: where tasks wait for messages and for room. One may read while another writes.
final class RPCPort: RPCMessageSource, RPCMessageSink, @unchecked Sendable {
    private let peer: RPCPeer
    /// The session that the call began in, which its peer may have left behind.
    private let session: RPCSession
    let call: RPCCall

    /// Somebody who waits for a signal. A signal that nobody waits for is kept.
    private struct Waiting {
        var continuation: UnsafeContinuation<Void, Never>?
        var isSignalled = false

        mutating func signal() -> UnsafeContinuation<Void, Never>? {
            isSignalled = continuation == nil
            return continuation.take()
        }

        /// False when there is nothing to wait for.
        mutating func wait(_ waiting: UnsafeContinuation<Void, Never>) -> Bool {
            if isSignalled {
                isSignalled = false
                return false
            }
            precondition(continuation == nil, "two tasks read, or two write, one call at the same time")
            continuation = waiting
            return true
        }
    }

    // Under the peer's lock.
    private var reader = Waiting()
    private var writer = Waiting()

    init(peer: RPCPeer, call: RPCCall) {
        self.peer = peer
        self.call = call
        session = peer.withLock { [peer] in peer.session }
        peer.withLock { call.port = self }
    }

    /// Under the peer's lock.
    func wakeReader(_ actions: inout ContiguousArray<RPCAction>) {
        if let continuation = reader.signal() { actions.append(.wake(continuation)) }
    }

    func wakeWriter(_ actions: inout ContiguousArray<RPCAction>) {
        if let continuation = writer.signal() { actions.append(.wake(continuation)) }
    }

    // MARK: Reading

    func nextMessage() async throws -> RPCMessage? {
        while true {
            let taken = peer.withSession { [session, call] _ in session.take(from: call, now: .systemNow()) }
            switch taken {
            case .message(let message): return message
            case .end: return nil
            case .failed(let error): throw error
            case .nothing: try await wait(for: \.reader)
            }
        }
    }

    // MARK: Writing

    func send(_ message: RPCMessage) async throws {
        let mustWait = try peer.withSession { [session, call] _ throws(RPCError) in
            try session.send(message, on: call)
        }
        guard mustWait else { return }
        while peer.withSession({ [session, call] _ in session.awaitRoom(call) }) {
            try await wait(for: \.writer)
        }
        if let error = peer.withLock({ [session, call] in session.failure(of: call) }) { throw error }
    }

    func finish() {
        peer.withSession { [session, call] _ in session.finish(call) }
    }

    func cancel() {
        peer.withSession { [session, call] _ in session.cancel(call) }
    }

    func discard() {
        peer.withSession { [session, call] _ in session.discard(call) }
    }

    // MARK: Waiting

    private func wait(for waiting: ReferenceWritableKeyPath<RPCPort, Waiting>) async throws {
        try Task.checkCancellation()
        nonisolated(unsafe) let waiting = waiting
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                let waits = peer.withLock { self[keyPath: waiting].wait(continuation) }
                if !waits { continuation.resume() }
            }
        } onCancel: {
            let continuation = peer.withLock { self[keyPath: waiting].signal() }
            continuation?.resume()
        }
        try Task.checkCancellation()
    }
}
