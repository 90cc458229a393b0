public import MartletCore
public import MartletIdentity
import MartletSwarm

/// A two-way stream to a peer, encrypted, ordered and flow-controlled.
///
///     let stream = try await node.openStream(to: peer, protocol: "/echo/1.0.0")
///     try await stream.write(Bytes(utf8: "hello"))
///     try await stream.finish()
///     while let bytes = try await stream.read() { … }
///
/// One task may read while another writes. A stream that is dropped without having been finished is reset.
public final class MeshStream: ByteStream {
    /// The peer at the other end.
    public let peer: PeerID
    /// The protocol that both sides agreed on.
    public let protocolID: String
    private let bridge: StreamBridge

    init(peer: PeerID, protocolID: String, bridge: StreamBridge) {
        self.peer = peer
        self.protocolID = protocolID
        self.bridge = bridge
    }

    deinit { bridge.abandon() }

    /// The next bytes as they came in, without a copy; nil once the peer has finished.
    ///
    /// - Throws: `MartletError` when the stream was reset or its connection ended; `CancellationError`.
    public func read() async throws -> Bytes? {
        switch bridge.takeArrival() {
        case .bytes(let bytes): return bytes
        case .end: return nil
        case .failed(let reason): throw MartletError(reason)
        case .none: break
        }
        do {
            return try await withTaskCancellationHandler {
                try await withUnsafeThrowingContinuation { continuation in
                    bridge.waitForArrival(continuation)
                    // A task cancelled before it came to wait has had its one call of `onCancel` already.
                    if Task.isCancelled { bridge.cancelRead() }
                }
            } onCancel: {
                bridge.cancelRead()
            }
        } catch let reason as StreamCloseReason {
            throw MartletError(reason)
        }
    }

    /// What has come in already, without waiting for more.
    func takeArrival() -> StreamBridge.Arrival { bridge.takeArrival() }

    /// Reads until `count` bytes are there.
    ///
    /// - Throws: `MartletError.code` `.streamEnded` when the peer finishes earlier.
    public func read(exactly count: Int) async throws -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count)
        while result.count < count {
            guard var bytes = try await nextPiece() else {
                throw MartletError(.streamEnded, "the peer finished after \(result.count) of \(count) bytes")
            }
            let part = bytes.takeFirst(min(bytes.count, count - result.count))
            part.withUnsafeBytes { result.append(contentsOf: $0) }
            if !bytes.isEmpty { bridge.putBack(bytes) }
        }
        return result
    }

    private func nextPiece() async throws -> Bytes? { try await read() }

    /// Hands `bytes` over for sending; waits while about a megabyte is queued.
    ///
    /// - Throws: `MartletError` when the stream was reset, finished or its connection ended; `CancellationError`.
    public func write(_ bytes: Bytes) async throws {
        guard !bytes.isEmpty else { return }
        do {
            guard try bridge.enqueue(bytes) else { return }
            try await withTaskCancellationHandler {
                try await withUnsafeThrowingContinuation { continuation in
                    bridge.waitUntilWritable(continuation)
                    if Task.isCancelled { bridge.cancelWrite() }
                }
            } onCancel: {
                bridge.cancelWrite()
            }
        } catch let reason as StreamCloseReason {
            throw MartletError(reason)
        }
    }

    /// Says that nothing more will be written. Reading goes on.
    public func finish() async throws {
        bridge.finish()
    }

    /// Returns when both directions have ended: after everything, or early by a reset or the loss of the connection. Also
    /// when the task is cancelled.
    func waitUntilClosed() async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                bridge.waitUntilClosed(continuation)
                if Task.isCancelled { bridge.cancelWaitUntilClosed() }
            }
        } onCancel: {
            bridge.cancelWaitUntilClosed()
        }
    }

    /// Ends both directions at once; the peer sees a reset.
    public func reset() {
        bridge.reset()
    }
}
