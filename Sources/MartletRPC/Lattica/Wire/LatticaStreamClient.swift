import DequeModule
public import MartletCore

/// The calling side of one stream of Lattica's stream protocol.
///
/// It carries any number of calls, also at the same time. Frames of calls that it does not know are dropped: they are what
/// was still on its way for calls that are over.
public struct LatticaStreamClient {
    /// How a method answers.
    public enum Kind: Hashable, Sendable {
        /// One result, in as many parts as it takes (`rpc_stream`).
        case result
        /// Any number of items (`rpc_stream_iter`).
        case items
    }

    public enum Event: Equatable, Sendable {
        case item(id: String, Bytes)
        /// The whole result of a call; the call is over.
        case result(id: String, RPCMessage)
        /// There are no more items; the call is over.
        case ended(id: String)
        /// The peer reports an error; the call is over.
        case failed(id: String, text: String)
        /// The result grew beyond `LatticaLimits.messageSize`. The call is over here; the peer is still to be told.
        case tooLong(id: String)
        /// The peer is done with a call that was cancelled.
        case cancelled(id: String)
    }

    private struct Call {
        let kind: Kind
        var isCancelled = false
        var result = GatheredBytes()
    }

    private let limits: LatticaLimits
    private var reader: LatticaFrameReader
    private var calls: [String: Call] = [:]
    private var events: Deque<Event> = []
    private var gatheredByteCount = 0

    public init(limits: LatticaLimits = LatticaLimits()) {
        self.limits = limits
        reader = LatticaFrameReader(limit: limits.frameSize)
    }

    /// Bytes of results and frames that are not complete. Events not yet taken come on top: at most what was received last.
    public var bufferedByteCount: Int { reader.bufferedByteCount + gatheredByteCount }
    /// Calls that are not over, those cancelled included.
    public var callCount: Int { calls.count }

    /// Begins a call and returns what to send, a frame at a time.
    public mutating func call(_ kind: Kind, id: String, method: String, argument: RPCMessage) -> [LatticaStreamFrame] {
        precondition(calls[id] == nil, "a second call with the id \(id)")
        calls[id] = Call(kind: kind)
        return LatticaStreamFrame.call(id: id, method: method, argument: argument)
    }

    /// Asks for something that every server refuses at once, to learn whether it has taken the stream: a Lattica node drops
    /// streams, without a word, that come faster than it takes them.
    ///
    /// - Returns: what to send; any event of `id` is the proof.
    public mutating func probe(id: String) -> LatticaStreamFrame {
        precondition(calls[id] == nil, "a second call with the id \(id)")
        calls[id] = Call(kind: .result)
        return .request(id: id, method: "", data: RPCMessage())
    }

    /// Gives a call up: nothing of it is reported any more but its end.
    ///
    /// - Returns: what to send, unless the call is over.
    public mutating func cancel(_ id: String) -> LatticaStreamFrame? {
        guard var call = calls[id], !call.isCancelled else { return nil }
        call.isCancelled = true
        gatheredByteCount -= call.result.byteCount
        call.result = GatheredBytes()
        calls[id] = call
        events.removeAll { if case .item(id, _) = $0 { true } else { false } }
        return .cancel(id: id)
    }

    /// - Throws: when the peer breaks the protocol: the stream is to be reset, and all its calls are over.
    public mutating func received(_ bytes: Bytes) throws(LatticaError) {
        var bytes = bytes
        while let body = try reader.next(from: &bytes) {
            switch try LatticaStreamFrame(decoding: body, limits: limits) {
            case .data(let id, let payload, _): received(payload, for: id)
            case .error(let id, let text):
                guard let call = calls[id] else { continue }
                // An error is the last word of some peers, and followed by the end from others.
                over(id, call.isCancelled ? .cancelled(id: id) : .failed(id: id, text: text))
            case .close(let id): closed(id)
            case .request: throw .unexpected("a request")
            case .cancel: throw .unexpected("a cancellation")
            }
        }
    }

    private mutating func received(_ payload: RPCMessage, for id: String) {
        guard let kind = calls[id]?.kind, calls[id]?.isCancelled == false else { return }
        guard kind == .result else {
            let item = payload.contiguous()
            // A small item must not keep the large block alive that it arrived in.
            return events.append(.item(id: id, item.count < 4096 ? item.compacted() : item))
        }
        guard (calls[id]?.result.byteCount ?? 0) + payload.byteCount <= limits.messageSize else {
            return over(id, .tooLong(id: id))
        }
        gatheredByteCount += payload.byteCount
        calls[id]?.result.append(payload)
    }

    private mutating func closed(_ id: String) {
        guard var call = calls[id] else { return }
        if call.isCancelled { return over(id, .cancelled(id: id)) }
        switch call.kind {
        case .items: over(id, .ended(id: id))
        case .result:
            calls[id] = nil
            gatheredByteCount -= call.result.byteCount
            events.append(.result(id: id, call.result.take()))
        }
    }

    private mutating func over(_ id: String, _ event: Event) {
        if let call = calls.removeValue(forKey: id) { gatheredByteCount -= call.result.byteCount }
        events.append(event)
    }

    /// What happened, in order.
    public mutating func nextEvent() -> Event? { events.popFirst() }

    public var hasEvent: Bool { !events.isEmpty }

    /// Whether the stream can end here without cutting a frame.
    public var isBetweenFrames: Bool { !reader.isInsideFrame }
}
