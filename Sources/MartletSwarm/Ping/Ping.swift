public import MartletCore

/// The libp2p ping protocol: 32 bytes, echoed, until the stream ends (specs/ping/ping.md).
public enum Ping {
    public static let protocolID = "/ipfs/ping/1.0.0"
    public static let payloadSize = 32
    /// The specification allows two inbound streams a peer.
    public static let inboundStreamLimit = 2
}

/// Echoes pings, and nothing but whole pings.
public final class PingResponder: StreamHandler {
    private var partial: [UInt8] = []

    public init() {}

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        bytes.withUnsafeBytes { partial.append(contentsOf: $0) }
        let whole = partial.count - partial.count % Ping.payloadSize
        if whole > 0 {
            // A peer that pings without reading the answers fills our queue: that is not a ping any more.
            guard stream.queuedByteCount < 64 * Ping.payloadSize else {
                return stream.fail("pings sent without reading the answers")
            }
            stream.send(Bytes(Array(partial[0..<whole])))
            partial.removeFirst(whole)
        }
        stream.consumed(bytes.count)
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        stream.finish()
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {}
}

/// Sends pings one at a time on one stream and tells each round-trip time.
public final class PingDialer: StreamHandler {
    /// A round trip, or why there will be no more.
    public typealias Outcome = Result<Duration, StreamCloseReason>

    private var random: RandomSource
    private var stream: PeerStream?
    private var isOpen = false
    private var isClosed = false
    private var isWaiting = false
    private var sentAt = Instant(nanoseconds: 0)
    private var payload: [UInt8] = []
    private var matched = 0
    private let onOutcome: (Outcome) -> Void

    /// - Parameter onOutcome: called on the connection's loop, once for every `ping()` and once when the stream closes.
    public init(random: RandomSource, onOutcome: @escaping (Outcome) -> Void) {
        self.random = random
        self.onOutcome = onOutcome
    }

    /// Sends the next ping. The one before must have been answered.
    public func ping() {
        precondition(!isWaiting, "a ping is already on its way")
        guard !isClosed else { return }
        isWaiting = true
        if isOpen, let stream { transmit(on: stream) }
    }

    public func finish() {
        stream?.finish()
    }

    public func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        isOpen = true
        if isWaiting { transmit(on: stream) }
    }

    private func transmit(on stream: PeerStream) {
        payload = random.bytes(Ping.payloadSize)
        matched = 0
        sentAt = stream.connection?.now ?? sentAt
        stream.send(Bytes(payload))
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        let expected = isWaiting ? Ping.payloadSize - matched : 0
        let matches = bytes.withUnsafeBytes { received in
            received.count <= expected && received.elementsEqual(payload[matched..<matched + received.count])
        }
        guard matches else { return stream.fail("a ping came back changed") }
        matched += bytes.count
        stream.consumed(bytes.count)
        if matched == Ping.payloadSize {
            isWaiting = false
            onOutcome(.success((stream.connection?.now ?? sentAt) - sentAt))
        }
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        stream.finish()
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        isClosed = true
        self.stream = nil
        onOutcome(.failure(reason))
    }
}
