import Synchronization

/// Lets so many in at a time; the rest wait in the order in which they came.
final class LatticaGate: Sendable {
    private struct State {
        var free: Int
        var line = WaitingLine<Void>()
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
            return state.line.takeNumber()
        }
        guard let number else { return }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let isInside = state.withLock { state in
                    guard state.free == 0 else {
                        state.free -= 1
                        return true
                    }
                    state.line.join(number, (), continuation)
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
        state.withLock { $0.line.remove(number) }?.resume(throwing: CancellationError())
    }

    func leave() {
        let next = state.withLock { state in
            let next = state.line.popFirst()
            if next == nil { state.free += 1 }
            return next
        }
        next?.continuation.resume()
    }
}
