import Glibc
import MartletCore
import Synchronization

@testable import MartletRuntime

/// A group for one test, shut down at its end.
func withGroup<T>(
    loopCount: Int = 1, configuration: EventLoop.Configuration = .init(),
    _ body: (EventLoopGroup) async throws -> T
) async throws -> T {
    let group = try EventLoopGroup(loopCount: loopCount, configuration: configuration)
    do {
        let result = try await body(group)
        await group.shutdown()
        return result
    } catch {
        await group.shutdown()
        throw error
    }
}

/// Something confined to a loop, carried through closures by tests that keep to it.
final class Confined<T>: @unchecked Sendable {
    var value: T
    init(_ value: T) { self.value = value }
}

/// A value that tasks share.
final class Shared<T: Sendable>: Sendable {
    private let mutex: Mutex<T>
    init(_ value: T) { mutex = Mutex(value) }

    var value: T { mutex.withLock { $0 } }
    func change(_ body: @Sendable (inout T) -> Void) { mutex.withLock { body(&$0) } }
}

/// A gate that blocks threads, not tasks.
final class ThreadGate: Sendable {
    private let lock = Lock()
    private let changed = Condition()
    private let state = Confined((isOpen: false, entered: 0))

    var enteredCount: Int { lock.withLock { state.value.entered } }

    func wait() {
        lock.lock()
        state.value.entered += 1
        while !state.value.isOpen { changed.wait(lock) }
        lock.unlock()
    }

    func open() {
        lock.withLock {
            state.value.isOpen = true
            changed.broadcast()
        }
    }
}

/// A condition that tasks wait for.
final class Latch: Sendable {
    private let state = Mutex<(count: Int, waiters: [(Int, CheckedContinuation<Void, Never>)])>((0, []))

    var count: Int { state.withLock { $0.count } }

    func signal() {
        let due = state.withLock { state in
            state.count += 1
            let count = state.count
            defer { state.waiters.removeAll { $0.0 <= count } }
            return state.waiters.filter { $0.0 <= count }
        }
        for (_, waiter) in due { waiter.resume() }
    }

    /// Waits for `count` signals in all.
    func wait(_ count: Int = 1) async {
        await withCheckedContinuation { continuation in
            let isDue = state.withLock { state in
                if state.count >= count { return true }
                state.waiters.append((count, continuation))
                return false
            }
            if isDue { continuation.resume() }
        }
    }
}

/// Asks again and again, on threads that do not matter, until `condition` holds.
func eventually(_ condition: @Sendable () -> Bool) async {
    while !condition() { try? await Task.sleep(for: .milliseconds(1)) }
}

/// One end of a connection: records what it is told, sends what it is given.
final class TestPeer: StreamSocketDelegate, @unchecked Sendable {
    let loop: EventLoop
    var socket: StreamSocket?
    var received: [UInt8] = []
    var receivedByteCount = 0
    var keepsReceived = true
    var outgoing: [UInt8] = []
    /// Zeros still to be sent after `outgoing`.
    var zerosToSend = 0
    var closed: SocketError??
    var closedCount = 0
    var remoteFinishedCount = 0
    var keepsSending = false
    var kept = Bytes()
    /// Bytes that the peer leaves unprocessed at the end of each region.
    var keepsLast = 0
    var onReceive: ((TestPeer) -> Void)?
    var onTransmit: ((TestPeer) -> Void)?

    init(_ loop: EventLoop) { self.loop = loop }

    /// Takes the socket over and starts it. In-loop.
    func attach(_ socket: StreamSocket) {
        self.socket = socket
        socket.delegate = self
        socket.start()
    }

    /// Waits until `condition` holds, asked in-loop again and again.
    func wait(_ condition: @escaping @Sendable (TestPeer) -> Bool) async {
        while (try? await loop.perform { condition(self) }) == false { try? await Task.sleep(for: .milliseconds(1)) }
    }

    func send(_ bytes: [UInt8]) {
        loop.execute {
            self.outgoing += bytes
            self.socket?.setNeedsFlush()
        }
    }

    var leftover: Bytes { kept }

    func socketReceived(_ region: ReceivedRegion) {
        let fresh = region.count - kept.count
        receivedByteCount += fresh
        let split = max(0, region.count - keepsLast)
        if keepsReceived { received += region.slice(0..<split).array }
        kept = region.slice(split..<region.count)
        onReceive?(self)
    }

    func socketTransmit(into buffer: inout TransmitBuffer) {
        let count = min(outgoing.count, buffer.remaining)
        outgoing[..<count].withUnsafeBytes { buffer.append($0) }
        outgoing.removeFirst(count)
        let zeros = min(zerosToSend, buffer.remaining)
        buffer.reserve(zeros).initializeMemory(as: UInt8.self, repeating: 0)
        buffer.commit(zeros)
        zerosToSend -= zeros
        onTransmit?(self)
    }

    func socketClosed(_ error: SocketError?) {
        closed = .some(error)
        closedCount += 1
        socket = nil
    }

    func socketRemoteFinished() -> Bool {
        remoteFinishedCount += 1
        return keepsSending
    }
}

/// Two peers connected over the loopback, or over a Unix-domain socket.
func connectedPair(
    _ dialing: EventLoop, _ listening: EventLoop, at address: SocketAddress = .loopback(port: 0),
    options: StreamSocketOptions = .init(), acceptOptions: StreamSocketOptions = .init()
) async throws -> (dialer: TestPeer, listener: TestPeer) {
    let accepted = TestPeer(listening)
    let listener = Confined<StreamListener?>(nil)
    let bound = try await listening.perform {
        listener.value = try StreamListener.listen(loop: listening, address: address) { descriptor in
            guard
                let socket = try? StreamSocket(
                    loop: listening, descriptor: descriptor.descriptor, options: acceptOptions)
            else { return }
            accepted.attach(socket)
        }
        return listener.value!.boundAddress
    }
    let dialer = TestPeer(dialing)
    try await connect(dialer, to: bound, options: options)
    await accepted.wait { $0.socket != nil }
    try await listening.perform { listener.value?.close() }
    return (dialer, accepted)
}

func connect(
    _ peer: TestPeer, to address: SocketAddress, from local: SocketAddress? = nil,
    options: StreamSocketOptions = .init()
) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        peer.loop.execute {
            StreamSocket.connect(loop: peer.loop, to: address, from: local, options: options) { result in
                switch result {
                case .success(let socket):
                    peer.attach(socket)
                    continuation.resume()
                case .failure(let error): continuation.resume(throwing: error)
                }
            }
        }
    }
}
