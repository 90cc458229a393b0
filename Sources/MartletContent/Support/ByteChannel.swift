import DequeModule
import MartletCore
import Synchronization

/// Carries bytes from one task to another and makes the first wait while much is on the way.
final class ByteChannel: Sendable {
    private struct State {
        var queue: Deque<Bytes> = []
        var byteCount = 0
        var isFinished = false
        var receiver: CheckedContinuation<Bytes?, Never>?
        var sender: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Hands `bytes` over at once.
    func send(_ bytes: Bytes) {
        let receiver = state.withLock { state -> CheckedContinuation<Bytes?, Never>? in
            guard !state.isFinished else { return nil }
            if let receiver = state.receiver.take() { return receiver }
            state.queue.append(bytes)
            state.byteCount += bytes.count
            return nil
        }
        receiver?.resume(returning: bytes)
    }

    /// Waits until less than `limit` bytes are on the way. False once finished.
    func waitForRoom(below limit: Int) async -> Bool {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isReady = state.withLock { state in
                guard state.byteCount >= limit, !state.isFinished else { return true }
                state.sender = continuation
                return false
            }
            if isReady { continuation.resume() }
        }
        return !state.withLock { $0.isFinished }
    }

    /// The next bytes; nil when all were taken and nothing follows.
    func next() async -> Bytes? {
        await withCheckedContinuation { (continuation: CheckedContinuation<Bytes?, Never>) in
            var sender: CheckedContinuation<Void, Never>?
            let taken: Bytes?? = state.withLock { state in
                if let bytes = state.queue.popFirst() {
                    state.byteCount -= bytes.count
                    sender = state.sender.take()
                    return .some(bytes)
                }
                if state.isFinished { return .some(nil) }
                state.receiver = continuation
                return nil
            }
            sender?.resume()
            if let taken { continuation.resume(returning: taken) }
        }
    }

    /// Nothing follows; what is on the way can still be taken, unless `dropping` it.
    func finish(dropping: Bool = false) {
        let (receiver, sender) = state.withLock { state in
            state.isFinished = true
            if dropping {
                state.queue = []
                state.byteCount = 0
            }
            return (state.receiver.take(), state.sender.take())
        }
        receiver?.resume(returning: nil)
        sender?.resume()
    }
}
