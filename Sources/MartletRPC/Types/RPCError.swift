public import MartletCore

/// Why a call failed, and what became of it.
///
///     do {
///         let reply = try await node.call(peer, "Model.forward", request)
///     } catch let error as RPCError where error.outcome == .notSent {
///         // safe to try elsewhere
///     }
///
/// Handlers throw it, too: code, message and details reach the caller as they are.
public struct RPCError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of failure, with gRPC's numbers. Numbers unknown here are kept.
    public struct Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        private init(_ rawValue: UInt8) { self.rawValue = rawValue }

        /// The caller gave up.
        public static let cancelled = Code(1)
        /// The handler threw an error that is no `RPCError`.
        public static let unknown = Code(2)
        public static let invalidArgument = Code(3)
        public static let deadlineExceeded = Code(4)
        public static let notFound = Code(5)
        public static let alreadyExists = Code(6)
        /// The caller may not call this method.
        public static let permissionDenied = Code(7)
        /// A limit was reached; the message names it.
        public static let resourceExhausted = Code(8)
        public static let failedPrecondition = Code(9)
        public static let aborted = Code(10)
        public static let outOfRange = Code(11)
        /// The peer has no such service or method, does not speak the protocol, or serves the method in another way.
        public static let unimplemented = Code(12)
        public static let `internal` = Code(13)
        /// The peer could not be reached, or was lost.
        public static let unavailable = Code(14)
        public static let dataLoss = Code(15)
        public static let unauthenticated = Code(16)

        private static let names = [
            "", "cancelled", "unknown", "invalidArgument", "deadlineExceeded", "notFound", "alreadyExists",
            "permissionDenied", "resourceExhausted", "failedPrecondition", "aborted", "outOfRange", "unimplemented",
            "internal", "unavailable", "dataLoss", "unauthenticated",
        ]

        public var description: String {
            rawValue > 0 && Int(rawValue) < Self.names.count ? Self.names[Int(rawValue)] : "code\(rawValue)"
        }
    }

    /// What became of the call at the other side.
    public enum Outcome: UInt8, Hashable, Sendable {
        /// The handler did not run and will not: safe to repeat.
        case notSent = 0
        /// The request was on its way when the peer was lost or the caller gave up: it may have run or not.
        case maybeExecuted = 1
        /// The handler ran, at least in part.
        case executed = 2
    }

    public var code: Code
    public var message: String
    /// Whatever the handler wants its caller to have, such as a serialized error.
    public var details: Bytes
    public var outcome: Outcome

    /// - Parameter outcome: set by the library; what a handler says here does not reach the caller.
    public init(_ code: Code, _ message: String, details: Bytes = Bytes(), outcome: Outcome = .executed) {
        self.code = code
        self.message = message
        self.details = details
        self.outcome = outcome
    }

    public var description: String { "\(code): \(message)" }

    /// The same error with another outcome.
    package func with(_ outcome: Outcome) -> RPCError {
        var error = self
        error.outcome = outcome
        return error
    }
}
