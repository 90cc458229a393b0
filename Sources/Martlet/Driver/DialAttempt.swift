import MartletRuntime

/// A dial under way before there is a connection, which the home loop may give up.
protocol PendingDial: AnyObject, Sendable {
    func cancel()
}

/// A socket being connected on some loop.
final class DialAttempt: PendingDial, @unchecked Sendable {
    private let loop: EventLoop
    /// Confined to the loop.
    private var attempt: ConnectAttempt?
    private var isCancelled = false

    init(loop: EventLoop) { self.loop = loop }

    /// - Parameter completion: called on the attempt's loop, not at all after `cancel`.
    func start(to address: SocketAddress, completion: @escaping @Sendable (Result<StreamSocket, SocketError>) -> Void) {
        loop.execute { [self] in
            guard !isCancelled else { return }
            attempt = StreamSocket.connect(loop: loop, to: address) { [self] result in
                attempt = nil
                // The socket stays on this loop, where it was made and where the completion runs.
                nonisolated(unsafe) let result = result
                completion(result)
            }
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
