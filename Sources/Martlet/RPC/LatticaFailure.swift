import MartletCore
import MartletRPC
import Synchronization

/// A call to a Lattica node took too long.
struct LatticaTimedOut: Error {}

/// Runs `body` for at most `timeout`; then it is cancelled, and `LatticaTimedOut` thrown once it has ended.
func withLatticaTimeout<T: Sendable>(
    _ timeout: Duration, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
    try await withThrowingTaskGroup(of: T?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: timeout)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let value = first else { throw LatticaTimedOut() }
        return value
    }
}

/// Set by one task, and read by another.
final class LatticaFlag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// Turns what can go wrong into the errors that calls throw.
enum LatticaFailure {
    /// - Parameter outcome: what is known of the call; errors that know better keep theirs.
    static func error(_ error: any Error, _ outcome: RPCError.Outcome) -> any Error {
        switch error {
        case is RPCError, is CancellationError, is LatticaTimedOut: return error
        case let error as MartletError: return RPCError(code(of: error), error.message, outcome: outcome)
        case let error as LatticaError:
            let code: RPCError.Code =
                switch error {
                case .frameTooLong, .messageTooLong: .resourceExhausted
                case .compressed: .unimplemented
                case .ended: .unavailable
                case .malformed, .unexpected, .duplicateCall: .internal
                }
            return RPCError(code, "\(error)", outcome: outcome)
        default: return RPCError(.unknown, "\(error)", outcome: outcome)
        }
    }

    private static func code(of error: MartletError) -> RPCError.Code {
        switch error.code {
        case .protocolNotSupported: .unimplemented
        case .limitReached: .resourceExhausted
        case .invalidArgument: .invalidArgument
        default: .unavailable
        }
    }

    static func timedOut(_ timeout: Duration, _ outcome: RPCError.Outcome) -> RPCError {
        RPCError(.deadlineExceeded, "no answer within \(timeout)", outcome: outcome)
    }

    /// What a Lattica node said. It has no codes, so a few of its texts are known here.
    static func reported(_ text: String) -> RPCError {
        let isUnknown = text == "Invalid method format" || text.hasSuffix(" not found")
        return isUnknown && (text.hasPrefix("Service ") || text.hasPrefix("Invalid") || text.contains("ethod _handle_"))
            ? RPCError(.unimplemented, text, outcome: .notSent) : RPCError(.unknown, text, outcome: .executed)
    }

    /// What the caller of a handler that threw `error` is told.
    static func text(of error: any Error) -> String {
        let text = "\(error)"
        let limit = 16 << 10
        return text.utf8.count <= limit ? text : String(text.prefix(limit / 4)) + " … (cut)"
    }
}
