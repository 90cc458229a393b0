import Synchronization

/// Wakes one task that waits, or lets its next wait pass: a flag with a waiter. Closing wakes it for ever.
final class Signal: Sendable {
    private struct State {
        var isSet = false
        var isClosed = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func signal() {
        let waiter = state.withLock { state in
            state.isSet = state.waiter == nil
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// Every wait, now and later, returns at once.
    func close() {
        let waiter = state.withLock { state in
            state.isClosed = true
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// Waits for the next signal. False once closed. Only one task may wait.
    @discardableResult
    func wait() async -> Bool {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isReady = state.withLock { state in
                guard !state.isSet, !state.isClosed else {
                    state.isSet = false
                    return true
                }
                precondition(state.waiter == nil, "two tasks wait for one signal")
                state.waiter = continuation
                return false
            }
            if isReady { continuation.resume() }
        }
        return !state.withLock { $0.isClosed }
    }
}
