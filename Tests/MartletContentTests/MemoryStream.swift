import DequeModule
import MartletCore
import Synchronization

/// Two ends of a stream in memory: what one writes the other reads, in pieces, with room for so many bytes between.
final class MemoryStream: ByteStream {
    struct Reset: Error {}

    private let incoming: Pipe
    private let outgoing: Pipe

    private init(incoming: Pipe, outgoing: Pipe) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    static func pair(
        capacity: Int = 1 << 20, piece: Int = 16 << 10
    ) -> (client: MemoryStream, server: MemoryStream) {
        let up = Pipe(capacity: capacity, piece: piece)
        let down = Pipe(capacity: capacity, piece: piece)
        return (MemoryStream(incoming: down, outgoing: up), MemoryStream(incoming: up, outgoing: down))
    }

    func read() async throws -> Bytes? { try await incoming.read() }
    func write(_ bytes: Bytes) async throws { try await outgoing.write(bytes) }
    func finish() async throws { outgoing.finish() }

    func reset() {
        incoming.reset()
        outgoing.reset()
    }

    private final class Pipe: Sendable {
        private struct State {
            var queue: Deque<Bytes> = []
            var byteCount = 0
            var isFinished = false
            var isReset = false
            var reader: CheckedContinuation<Void, Never>?
            var writer: CheckedContinuation<Void, Never>?
        }

        private let capacity: Int
        private let piece: Int
        private let state = Mutex(State())

        init(capacity: Int, piece: Int) {
            self.capacity = capacity
            self.piece = piece
        }

        func read() async throws -> Bytes? {
            while true {
                var writer: CheckedContinuation<Void, Never>?
                let found: Bytes?? = try state.withLock { state in
                    if state.isReset { throw Reset() }
                    guard !state.queue.isEmpty else { return state.isFinished ? .some(nil) : nil }
                    let bytes: Bytes
                    if state.queue[0].count <= piece {
                        bytes = state.queue.removeFirst()
                    } else {
                        bytes = state.queue[0].takeFirst(piece)
                    }
                    state.byteCount -= bytes.count
                    if state.byteCount <= capacity / 2 { writer = state.writer.take() }
                    return .some(bytes)
                }
                writer?.resume()
                if let found { return found }
                await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                    let isReady = state.withLock { state in
                        if state.isReset || state.isFinished || !state.queue.isEmpty { return true }
                        state.reader = continuation
                        return false
                    }
                    if isReady { continuation.resume() }
                }
            }
        }

        func write(_ bytes: Bytes) async throws {
            let reader = try state.withLock { state in
                if state.isReset { throw Reset() }
                if !bytes.isEmpty { state.queue.append(bytes) }
                state.byteCount += bytes.count
                return state.reader.take()
            }
            reader?.resume()
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let isReady = state.withLock { state in
                    if state.isReset || state.byteCount <= capacity { return true }
                    state.writer = continuation
                    return false
                }
                if isReady { continuation.resume() }
            }
            if state.withLock({ $0.isReset }) { throw Reset() }
        }

        func finish() {
            state.withLock { state in
                state.isFinished = true
                return state.reader.take()
            }?.resume()
        }

        func reset() {
            let (reader, writer) = state.withLock { state in
                state.isReset = true
                state.queue = []
                return (state.reader.take(), state.writer.take())
            }
            reader?.resume()
            writer?.resume()
        }
    }
}

/// Runs blocking code where it is called: tests do little of it.
struct DirectExecutor: BlockingExecutor {
    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T { try body() }
}

/// As a pool of threads does: the work begins later, unless the task was cancelled before.
struct LaterExecutor: BlockingExecutor {
    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        for _ in 0..<10 { await Task.yield() }
        try Task.checkCancellation()
        return try body()
    }
}
