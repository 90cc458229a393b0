public import MartletCore

/// Answers STUN requests at a node's UDP sockets, so that nodes behind NATs learn how these map them without any service of
/// somebody else's. A few hundred answers a second are all that this is worth.
public struct STUNResponder: Sendable {
    public static let answersPerSecond = 500

    private var window = Instant(nanoseconds: .min)
    private var count = 0

    public init() {}

    /// The answer to a datagram; nil when it is no request, or there were too many.
    ///
    /// - Parameter other: another socket of this node on the same address, which the asker may try too.
    public mutating func answer(
        _ datagram: [UInt8], from address: TransportAddress, other: TransportAddress?, now: Instant
    ) -> [UInt8]? {
        guard case .request(let id)? = try? STUNMessage(bytes: datagram) else { return nil }
        if now - window >= .seconds(1) {
            window = now
            count = 0
        }
        guard count < Self.answersPerSecond else { return nil }
        count += 1
        return STUNMessage.response(id, mapped: address, other: other).bytes
    }
}
