import DequeModule
import Synchronization

/// Lets so many in at a time; the rest wait in the order in which they came.
final class LatticaGate: Sendable {
    private struct State {
        var free: Int
        var waiting: Deque<(number: UInt64, continuation: UnsafeContinuation<Void, any Error>)> = []
        var lastNumber: UInt64 = 0
    }

    private let state: Mutex<State>

    init(limit: Int) { state = Mutex(State(free: limit)) }

    /// Waits until there is room, and takes it. `leave` gives it back.
    ///
    /// - Throws: `CancellationError`; then there is nothing to give back.
    func enter() async throws {
        let number: UInt64? = state.withLock { state in
            if state.free > 0 {
                state.free -= 1
                return nil
            }
            state.lastNumber += 1
            return state.lastNumber
        }
        guard let number else { return }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let isInside = state.withLock { state in
                    guard state.free == 0 else {
                        state.free -= 1
                        return true
                    }
                    state.waiting.append((number, continuation))
                    return false
                }
                if isInside { return continuation.resume() }
                // A task cancelled before it came to wait has had its one call of `onCancel` already.
                if Task.isCancelled { giveUp(number) }
            }
        } onCancel: {
            giveUp(number)
        }
    }

    private func giveUp(_ number: UInt64) {
        let continuation = state.withLock { state -> UnsafeContinuation<Void, any Error>? in
            guard let index = state.waiting.firstIndex(where: { $0.number == number }) else { return nil }
            return state.waiting.remove(at: index).continuation
        }
        continuation?.resume(throwing: CancellationError())
    }

    func leave() {
        let next = state.withLock { state in
            let next = state.waiting.popFirst()
            if next == nil { state.free += 1 }
            return next
        }
        next?.continuation.resume()
    }
}
