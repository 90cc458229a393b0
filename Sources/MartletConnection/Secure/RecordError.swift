/// Why a record could not be read or written. Each ends the connection.
public enum RecordError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A record shorter than its authentication tag.
    case tooShort(Int)
    /// A record that was changed on the way, or was not sealed with the key agreed on.
    case notAuthentic
    /// 2^64 − 1 records have been sealed or opened with one key.
    case nonceExhausted

    public var description: String {
        switch self {
        case .tooShort(let count): "a record of \(count) bytes is shorter than its tag"
        case .notAuthentic: "a record is not authentic"
        case .nonceExhausted: "the key of this connection is used up"
        }
    }
}
