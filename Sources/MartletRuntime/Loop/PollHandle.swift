import CLibuv

/// What a descriptor is watched for.
struct PollEvents: OptionSet {
    let rawValue: CInt

    static let readable = PollEvents(rawValue: CInt(UV_READABLE.rawValue))
    static let writable = PollEvents(rawValue: CInt(UV_WRITABLE.rawValue))
    /// The peer has finished. Reported again and again while watched.
    static let disconnect = PollEvents(rawValue: CInt(UV_DISCONNECT.rawValue))
    /// Hardly ever happens on its own: watched for when only errors matter, which are always reported.
    static let urgent = PollEvents(rawValue: CInt(UV_PRIORITIZED.rawValue))
}

/// A `uv_poll_t`. Its memory belongs to libuv until the close callback, which frees it.
///
/// The descriptor stays its user's, who may close it right after `close()`.
final class PollHandle {
    typealias Handler = (_ failed: Bool, _ events: PollEvents) -> Void

    private unowned let loop: EventLoop
    private let handle: UnsafeMutablePointer<uv_poll_t>
    /// Must not keep its owner alive.
    var handler: Handler?
    private var watched: PollEvents = []
    private var isClosing = false
    private(set) var isClosed = false

    /// Nil when libuv refuses the descriptor (it cannot be polled).
    init?(loop: EventLoop, descriptor: CInt, handler: Handler? = nil) {
        self.loop = loop
        self.handler = handler
        handle = .allocate(capacity: 1)
        handle.initialize(to: uv_poll_t())
        guard uv_poll_init(loop.uv, handle, descriptor) == 0 else {
            handle.deallocate()
            isClosing = true
            isClosed = true
            return nil
        }
        // Balanced in the close callback.
        handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
    }

    /// Watches for `events` instead of what was watched so far; costs nothing when they are the same.
    func update(_ events: PollEvents) {
        guard events != watched, !isClosing else { return }
        watched = events
        uv_poll_start(handle, events.rawValue) { handle, status, events in
            guard let data = handle?.pointee.data else { return }
            // Alive: retained until the close callback, after which libuv calls no more.
            Unmanaged<PollHandle>.fromOpaque(data).takeUnretainedValue().fire(status, events)
        }
    }

    private func fire(_ status: CInt, _ events: CInt) {
        loop.enterCallback()
        // libuv stops watching after an error.
        if status < 0 { watched = [] }
        handler?(status < 0, PollEvents(rawValue: events))
    }

    /// Stops watching. In-loop, and required: nothing else frees the handle.
    func close() {
        guard !isClosing else { return }
        isClosing = true
        handler = nil
        uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
            guard let handle, let data = handle.pointee.data else { return }
            // Balances the retain in init.
            Unmanaged<PollHandle>.fromOpaque(data).takeRetainedValue().finishClosing()
        }
    }

    private func finishClosing() {
        isClosed = true
        handle.deinitialize(count: 1)
        handle.deallocate()
    }
}

/// Something open on a loop that the loop closes when it shuts down. The loop keeps it alive while registered.
public class LoopResource {
    public let loop: EventLoop

    init(loop: EventLoop) { self.loop = loop }

    /// Keeps this alive and has it closed at shutdown. False when the loop is shutting down already.
    func register() -> Bool {
        guard loop.lock.withLock({ loop.phase == .running }) else { return false }
        loop.resources[ObjectIdentifier(self)] = self
        return true
    }

    func unregister() { loop.resources[ObjectIdentifier(self)] = nil }

    /// Closes at once. Called in-loop.
    func closeForShutdown() {}
}
