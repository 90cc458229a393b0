import MartletCore
import MartletRuntime

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Connects by TCP from the port that the node listens at, again and again: the other side does the same, and the two SYNs open
/// both NATs. One that comes too early may be refused, which says nothing.
final class PunchTCPConnect: @unchecked Sendable {
    /// After a refusal, and until a SYN that was not answered is given up for a fresh one.
    private static let retryDelay = Duration.milliseconds(30)
    private static let attemptTime = Duration.milliseconds(600)

    private let loop: EventLoop
    private let local: SocketAddress
    let remote: SocketAddress
    /// Called on the loop, at most once.
    private let onConnected: @Sendable (StreamSocket) -> Void
    /// Confined to the loop.
    private var attempt: ConnectAttempt?
    private var timer: LoopTimer?
    private var isOver = false

    init(
        loop: EventLoop, from local: SocketAddress, to remote: SocketAddress,
        onConnected: @escaping @Sendable (StreamSocket) -> Void
    ) {
        self.loop = loop
        self.local = local
        self.remote = remote
        self.onConnected = onConnected
    }

    func start() {
        loop.execute { [self] in
            timer = LoopTimer(loop: loop) { [weak self] in self?.connect() }
            connect()
        }
    }

    func cancel() {
        loop.execute { [self] in end() }
    }

    private func end() {
        isOver = true
        attempt?.cancel()
        attempt = nil
        timer?.cancel()
        timer = nil
    }

    private func connect() {
        guard !isOver else { return }
        var options = StreamSocketOptions()
        options.connectTimeout = Self.attemptTime
        attempt = StreamSocket.connect(loop: loop, to: remote, from: local, options: options) { [weak self] result in
            guard let self, !isOver else { return }
            attempt = nil
            switch result {
            case .success(let socket):
                end()
                onConnected(socket)
            // The pair of ports is in use: the other side's SYN was faster and its connection is there already.
            case .failure(let error) where error.code == EADDRNOTAVAIL || error.code == EADDRINUSE: end()
            case .failure: timer?.schedule(at: loop.now + Self.retryDelay)
            }
        }
    }
}
