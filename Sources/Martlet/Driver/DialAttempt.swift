import MartletRuntime

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A dial under way before there is a connection, which the home loop may give up.
protocol PendingDial: AnyObject, Sendable {
    func cancel()
}

/// A socket being connected on some loop.
final class DialAttempt: PendingDial, @unchecked Sendable {
    /// The socket and, when it has the port of a listener, that address.
    typealias Completion = @Sendable (Result<StreamSocket, SocketError>, SocketAddress?) -> Void

    private let loop: EventLoop
    let remote: SocketAddress
    /// Confined to the loop.
    private var attempt: ConnectAttempt?
    private var isCancelled = false

    init(loop: EventLoop, to remote: SocketAddress) {
        self.loop = loop
        self.remote = remote
    }

    /// - Parameters:
    ///   - local: where to dial from; from any port when that one is in use towards the same address.
    ///   - completion: called on the attempt's loop, not at all after `cancel`.
    func start(from local: SocketAddress?, completion: @escaping Completion) {
        loop.execute { [self] in connect(from: local, completion) }
    }

    private func connect(from local: SocketAddress?, _ completion: @escaping Completion) {
        guard !isCancelled else { return }
        attempt = StreamSocket.connect(loop: loop, to: remote, from: local) { [self] result in
            attempt = nil
            if case .failure(let error) = result, local != nil, [EADDRNOTAVAIL, EADDRINUSE].contains(error.code) {
                return connect(from: nil, completion)
            }
            // The socket stays on this loop, where it was made and where the completion runs.
            nonisolated(unsafe) let result = result
            completion(result, local)
        }
    }

    func cancel() {
        loop.execute { [self] in
            isCancelled = true
            attempt?.cancel()
            attempt = nil
        }
    }
}
