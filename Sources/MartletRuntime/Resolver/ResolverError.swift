/// Why a name could not be resolved.
public enum ResolverError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The name does not exist, or has no such records.
    case notFound(name: String)
    case timedOut(name: String)
    /// Not a name at all: empty, too long, or with characters that no name has.
    case invalidName(String)
    /// The servers answered with a failure, or with nonsense, or there are none.
    case failed(name: String, reason: String)
    /// As many look-ups as allowed are under way.
    case tooManyQueries(limit: Int)
    case cancelled
    /// The resolver's loop is shut down.
    case shutDown

    public var description: String {
        switch self {
        case .notFound(let name): "no such name: \(name)"
        case .timedOut(let name): "the look-up of \(name) timed out"
        case .invalidName(let name): "not a host name: \(name)"
        case .failed(let name, let reason): "the look-up of \(name) failed: \(reason)"
        case .tooManyQueries(let limit): "\(limit) look-ups are already under way"
        case .cancelled: "the look-up was cancelled"
        case .shutDown: "the resolver is shut down"
        }
    }
}
