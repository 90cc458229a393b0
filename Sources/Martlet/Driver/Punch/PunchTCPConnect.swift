import MartletCore
import MartletRuntime

/// Connects by TCP from the port that the node listens at, again and again: the other side does the same, and the two SYNs open
/// both NATs. One that comes too early may be refused, which says nothing.
final class PunchTCPConnect: @unchecked Sendable {
    /// After a refusal. A SYN that is not answered is left to the kernel, which sends it again: a NAT that has seen SYNs from
    /// both sides drops one with another sequence number.
    private static let retryDelay = Duration.milliseconds(30)

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
        attempt = StreamSocket.connect(loop: loop, to: remote, from: local) { [weak self] result in
            guard let self, !isOver else { return }
            attempt = nil
            switch result {
            case .success(let socket):
                end()
                onConnected(socket)
            // Not even when the pair of ports is in use is it over: if the other side's connection is there, that one ends
            // this; a dial of the same address that nobody answers goes away in its time.
            case .failure: timer?.schedule(at: loop.now + Self.retryDelay)
            }
        }
    }
}
