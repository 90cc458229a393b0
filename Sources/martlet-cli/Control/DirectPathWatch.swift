import Martlet
import MartletCore
import MartletIdentity
import Synchronization

/// Notes when the path to a peer becomes direct, whatever else is under way then, and ends a pause for it.
final class DirectPathWatch: Sendable {
    private struct State {
        var foundAt: Instant?
        /// Ends one pause only: a path that is lost again is not waited for without pauses.
        var isNews = false
        var pause: Task<Void, Never>?
    }

    private let state = Mutex(State())
    private let watching = Mutex<Task<Void, Never>?>(nil)

    /// When it was first seen to be direct.
    var foundAt: Instant? { state.withLock(\.foundAt) }

    func start(_ node: Node, _ peer: PeerID) async {
        let events = node.subscribeToEvents()
        watching.withLock {
            $0 = Task { [weak self] in
                for await case .pathChanged(peer, let path) in events where path > .relayed {
                    self?.found()
                    return
                }
            }
        }
        // It may have become so before there was somebody to tell.
        if let path = try? await node.status(of: peer)?.path, path > .relayed { found() }
    }

    func stop() { watching.withLock { $0?.cancel() } }

    func found() {
        state.withLock { state in
            guard state.foundAt == nil else { return }
            state.foundAt = .systemNow()
            state.isNews = true
            state.pause?.cancel()
        }
    }

    /// Waits so long, or until the path becomes direct.
    func pause(for duration: Duration) async throws {
        let pause = Task {
            // Its end before that time is no error here.
            _ = try? await Task.sleep(for: duration)
        }
        state.withLock { state in
            state.pause = pause
            if state.isNews { pause.cancel() }
        }
        await withTaskCancellationHandler {
            await pause.value
        } onCancel: {
            pause.cancel()
        }
        state.withLock { state in
            state.isNews = state.isNews && !pause.isCancelled
            state.pause = nil
        }
        try Task.checkCancellation()
    }
}
