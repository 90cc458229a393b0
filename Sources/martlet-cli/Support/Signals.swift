import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Turns SIGINT and SIGTERM into something to wait for. The first asks for an orderly end; the second ends the process.
///
/// At most one exists in a process.
final class Signals: Sendable {
    private struct State {
        var received: Int32?
        var waiter: UnsafeContinuation<Int32, Never>?
    }

    private let state = Mutex(State())
    private let onSecond: @Sendable () -> Void
    private let onUser: (@Sendable () -> Void)?

    /// - Parameters:
    ///   - onUser: called for every SIGUSR1; without it that signal does what it does by default.
    ///   - onSecond: called just before a second signal ends the process.
    init(onUser: (@Sendable () -> Void)? = nil, onSecond: @escaping @Sendable () -> Void = {}) throws {
        self.onUser = onUser
        self.onSecond = onSecond
        var pair: [CInt] = [-1, -1]
        guard pipe(&pair) == 0 else { throw Failure.system("make", "a pipe", errno) }
        for descriptor in pair { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        signalPipe = pair[1]
        startThread { [self, source = pair[0]] in watch(source) }
        for number in [SIGINT, SIGTERM] + (onUser == nil ? [] : [SIGUSR1]) {
            signal(number) { number in
                // All that a signal handler may do: hand the number to a thread. errno belongs to whom it interrupts.
                let code = errno
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(signalPipe, &byte, 1)
                errno = code
            }
        }
    }

    private func watch(_ source: CInt) {
        var byte: UInt8 = 0
        while read(source, &byte, 1) >= 0 || errno == EINTR {
            let number = Int32(byte)
            if number == SIGUSR1 {
                onUser?()
                continue
            }
            let (isFirst, waiter) = state.withLock { state in
                let isFirst = state.received == nil
                state.received = state.received ?? number
                return (isFirst, state.waiter.take())
            }
            guard isFirst else {
                onSecond()
                _exit(128 + number)
            }
            waiter?.resume(returning: number)
        }
    }

    /// Waits for the first signal and returns its number.
    func next() async -> Int32 {
        await withUnsafeContinuation { continuation in
            let received = state.withLock { state in
                if state.received == nil { state.waiter = continuation }
                return state.received
            }
            if let received { continuation.resume(returning: received) }
        }
    }
}

/// Where the signal handler writes. Set once, before the handler is installed.
nonisolated(unsafe) private var signalPipe: CInt = -1

/// Runs `body` on a thread of its own with a small stack.
@discardableResult
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, 256 << 10)
    let box = Unmanaged.passRetained(Box(body))
    var thread = pthread_t()
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            // Retained just above for this thread alone, which takes the reference over.
            guard let argument else { return nil }
            Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body()
            return nil
        }, box.toOpaque())
    guard code == 0 else {
        box.release()
        return nil
    }
    return thread
}
