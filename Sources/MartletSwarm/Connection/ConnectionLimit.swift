/// What a relay lets through on one connection before it cuts it off.
///
/// Bulk data belongs on another path: whoever has much to send asks for the limit first.
public struct ConnectionLimit: Hashable, Sendable, CustomStringConvertible {
    /// From the moment the connection was made; nil for no limit in time.
    public var duration: Duration?
    /// Bytes in each direction; nil for no limit in bytes.
    public var byteCount: UInt64?

    public init(duration: Duration? = nil, byteCount: UInt64? = nil) {
        self.duration = duration
        self.byteCount = byteCount
    }

    public var description: String {
        switch (duration, byteCount) {
        case (let duration?, let count?): "\(duration) or \(count) bytes each way"
        case (let duration?, nil): "\(duration)"
        case (nil, let count?): "\(count) bytes each way"
        case (nil, nil): "none"
        }
    }
}
