public import MartletCore

/// The libp2p perf protocol (specs/perf/perf.md): the dialer sends the size of the answer it wants as 8 big-endian bytes and
/// then any number of bytes until it finishes; the listener then sends that many bytes and finishes. Off by default, for
/// it costs whatever the peer asks.
public enum Perf {
    public static let protocolID = "/perf/1.0.0"
}

/// The answering side.
public final class PerfResponder: StreamHandler {
    private static let block = Bytes(count: 65_536) { $0.initializeMemory(as: UInt8.self, repeating: 0) }

    private var header: [UInt8] = []
    private var remaining: UInt64 = 0
    private var isAnswering = false

    public init() {}

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        if header.count < 8 {
            header.append(contentsOf: bytes.prefix(8 - header.count).array)
        }
        stream.consumed(bytes.count)
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        guard header.count == 8 else {
            return stream.fail("perf request of \(header.count) bytes instead of 8 and more")
        }
        remaining = header.reduce(0) { $0 << 8 | UInt64($1) }
        isAnswering = true
        fill(stream)
    }

    public func streamWritable(_ stream: PeerStream) {
        if isAnswering { fill(stream) }
    }

    /// Keeps the send queue between its marks, so that memory does not follow the size asked for.
    private func fill(_ stream: PeerStream) {
        let room = stream.sendHighWater + 1 - stream.queuedByteCount
        var sent = 0
        while remaining > 0, sent < room {
            let n = Int(min(remaining, UInt64(Self.block.count)))
            stream.send(Self.block.prefix(n))
            remaining -= UInt64(n)
            sent += n
        }
        if remaining == 0 { stream.finish() }
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}
