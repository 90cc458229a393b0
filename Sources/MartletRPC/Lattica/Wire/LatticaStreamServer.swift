import DequeModule
public import MartletCore

/// The serving side of one stream of Lattica's stream protocol: puts arguments together and says what to run.
///
/// The owner runs the handlers, sends their frames and says `finished` for each.
public struct LatticaStreamServer {
    public enum Event: Equatable, Sendable {
        /// A call has begun, its argument is still to come: the moment to refuse it.
        case began(id: String, method: String)
        /// The argument is complete: run the handler.
        case ready(id: String, method: String, argument: RPCMessage)
        /// The client wants no more of a call whose handler runs.
        case cancelled(id: String)
        /// To be sent: refusals.
        case send(LatticaStreamFrame)
    }

    private struct Call {
        let method: String
        var argument = GatheredBytes()
        /// The size of the argument, which the handler has; nil until it is complete.
        var runningWith: Int?
        var isCancelled = false
    }

    /// Arguments below this size are copied out of what was received.
    private static let copiedSize = 64 << 10

    private let limits: LatticaLimits
    private var reader: LatticaFrameReader
    private var calls: [String: Call] = [:]
    private var events: Deque<Event> = []
    private var argumentByteCount = 0

    public init(limits: LatticaLimits = LatticaLimits()) {
        self.limits = limits
        reader = LatticaFrameReader(limit: limits.frameSize)
    }

    /// Bytes of arguments, those included that handlers have, and of a frame that is not complete.
    public var bufferedByteCount: Int { reader.bufferedByteCount + argumentByteCount }
    /// Calls that are not over.
    public var callCount: Int { calls.count }
    public var isBetweenFrames: Bool { !reader.isInsideFrame }

    /// - Throws: when the peer breaks the protocol: the stream is to be reset, and all its calls are over.
    public mutating func received(_ bytes: Bytes) throws(LatticaError) {
        var bytes = bytes
        while let body = try reader.next(from: &bytes) {
            switch try LatticaStreamFrame(decoding: body, limits: limits) {
            // The argument comes as data; what a request itself carries means nothing.
            case .request(let id, let method, _): try begin(id, method)
            case .data(let id, let payload, let isEnd): received(payload, isEnd, for: id)
            // Lattica's client sends neither of the last two. Either way the caller is done.
            case .cancel(let id), .close(let id), .error(let id, _): cancel(id)
            }
        }
    }

    private mutating func begin(_ id: String, _ method: String) throws(LatticaError) {
        guard calls[id] == nil else { throw .duplicateCall(id: id) }
        // As Lattica words it, and without an end after it, as Lattica does.
        guard method.split(separator: ".", omittingEmptySubsequences: false).count == 2 else {
            return events.append(.send(.error(id: id, text: "Invalid method format")))
        }
        guard calls.count < limits.callsPerStream else {
            return reject(id, "callsPerStream is \(limits.callsPerStream), and so many calls are not over")
        }
        calls[id] = Call(method: method)
        events.append(.began(id: id, method: method))
    }

    private mutating func received(_ payload: RPCMessage, _ isEnd: Bool, for id: String) {
        // Data of a call that was refused or is over already goes nowhere.
        guard let gathered = openArgumentByteCount(id) else { return }
        guard gathered + payload.byteCount <= limits.messageSize else {
            return refuse(id, "\(LatticaError.messageTooLong(limit: limits.messageSize))")
        }
        argumentByteCount += payload.byteCount
        // A large argument of one part is passed on as it came. A small one must not keep the block alive that it came in.
        guard gathered > 0 || !isEnd || payload.byteCount < Self.copiedSize else { return complete(id, payload) }
        calls[id]?.argument.append(payload)
        if isEnd { complete(id, calls[id]?.argument.take() ?? RPCMessage()) }
    }

    /// How much there is of an argument that is not complete. (Not the call itself: a copy would stand in the way of changes.)
    private func openArgumentByteCount(_ id: String) -> Int? {
        guard let call = calls[id], call.runningWith == nil else { return nil }
        return call.argument.byteCount
    }

    private mutating func complete(_ id: String, _ argument: RPCMessage) {
        guard let method = calls[id]?.method else { return }
        calls[id]?.runningWith = argument.byteCount
        events.append(.ready(id: id, method: method, argument: argument))
    }

    private mutating func cancel(_ id: String) {
        guard let call = calls[id], !call.isCancelled else { return }
        if call.runningWith != nil {
            calls[id]?.isCancelled = true
            return events.append(.cancelled(id: id))
        }
        finished(id)
        events.append(.send(.close(id: id)))
    }

    private mutating func reject(_ id: String, _ text: String) {
        events.append(.send(.error(id: id, text: text)))
        events.append(.send(.close(id: id)))
    }

    /// Refuses a call whose handler has not begun: it gets `text` as its error, and the rest of its argument is dropped.
    public mutating func refuse(_ id: String, _ text: String) {
        guard calls[id] != nil else { return }
        finished(id)
        // Nothing more is told of a call that is refused.
        events.removeAll {
            switch $0 {
            case .ready(id, _, _), .cancelled(id): true
            default: false
            }
        }
        reject(id, text)
    }

    /// Refuses every call whose argument is not complete, to make room.
    public mutating func refuseIncomplete(_ text: String) {
        for id in calls.keys.sorted() where calls[id]?.runningWith == nil { refuse(id, text) }
    }

    /// The handler of a call has ended, and its frames are queued.
    public mutating func finished(_ id: String) {
        guard let call = calls.removeValue(forKey: id) else { return }
        argumentByteCount -= call.runningWith ?? call.argument.byteCount
    }

    /// What is to be done, in order.
    public mutating func nextEvent() -> Event? { events.popFirst() }
}
