import DequeModule
import Synchronization

/// Lets so many bytes be in work at once; who wants more waits, in order.
final class ByteSemaphore: Sendable {
    private struct State {
        var free: Int
        var isClosed = false
        var waiters: Deque<(count: Int, continuation: CheckedContinuation<Void, Never>)> = []
    }

    private let limit: Int
    private let state: Mutex<State>

    init(byteCount: Int) {
        limit = byteCount
        state = Mutex(State(free: byteCount))
    }

    /// Takes `count` bytes if they are free.
    func tryAcquire(_ count: Int) -> Bool {
        let count = min(count, limit)
        return state.withLock { state in
            guard state.waiters.isEmpty, state.free >= count else { return false }
            state.free -= count
            return true
        }
    }

    /// Takes `count` bytes, waiting for them. More than the limit counts as the limit.
    func acquire(_ count: Int) async {
        let count = min(count, limit)
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isReady = state.withLock { state in
                if state.isClosed { return true }
                if state.waiters.isEmpty, state.free >= count {
                    state.free -= count
                    return true
                }
                state.waiters.append((count, continuation))
                return false
            }
            if isReady { continuation.resume() }
        }
    }

    func release(_ count: Int) {
        let ready = state.withLock { state in
            state.free += min(count, limit)
            var ready: [CheckedContinuation<Void, Never>] = []
            while let first = state.waiters.first, state.free >= first.count {
                state.free -= first.count
                state.waiters.removeFirst()
                ready.append(first.continuation)
            }
            return ready
        }
        for continuation in ready { continuation.resume() }
    }

    /// Nobody waits any more.
    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.continuation.resume() }
    }
}
