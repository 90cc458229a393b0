public import MartletCore

/// Answers STUN requests at a node's UDP sockets, so that nodes behind NATs learn how these map them without any service of
/// somebody else's. A few hundred answers a second are all that this is worth.
public struct STUNResponder: Sendable {
    public static let answersPerSecond = 500

    private var window = Instant(nanoseconds: .min)
    private var count = 0

    public init() {}

    /// An answer, and which of the server's sockets it has to be sent from.
    public struct Answer: Hashable, Sendable {
        public enum Source: Hashable, Sendable {
            case asked
            case other
            case alternate
        }

        public let bytes: [UInt8]
        public let source: Source
    }

    /// The answer to a datagram; nil when it is no request, or wants what cannot be had, or there were too many.
    ///
    /// - Parameters:
    ///   - other: another socket of this node on the same address, which the asker may try too.
    ///   - alternate: one on another address.
    public mutating func answer(
        _ datagram: [UInt8], from address: TransportAddress, other: TransportAddress?,
        alternate: TransportAddress? = nil, now: Instant
    ) -> Answer? {
        let id: STUNMessage.TransactionID
        let source: Answer.Source
        switch try? STUNMessage(bytes: datagram) {
        case .request(let transaction)?: (id, source) = (transaction, .asked)
        case .changeRequest(let transaction, let changesAddress)?:
            guard changesAddress ? alternate != nil : other != nil else { return nil }
            (id, source) = (transaction, changesAddress ? .alternate : .other)
        case .response?, nil: return nil
        }
        if now - window >= .seconds(1) {
            window = now
            count = 0
        }
        guard count < Self.answersPerSecond else { return nil }
        count += 1
        let response = STUNMessage.response(id, mapped: address, other: other, alternate: alternate)
        return Answer(bytes: response.bytes, source: source)
    }
}
