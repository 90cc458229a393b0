import MartletSwarm

/// What went wrong, for a program (`code`) and for a person (`message`).
public struct MartletError: Error, Sendable, CustomStringConvertible {
    /// The kinds of failure. More may come; treat unknown ones as `internalError`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String
        private init(_ description: String) { self.description = description }

        /// A peer could not be reached.
        public static let dialFailed = Code("dialFailed")
        public static let notConnected = Code("notConnected")
        /// The peer speaks none of the protocols asked for.
        public static let protocolNotSupported = Code("protocolNotSupported")
        public static let streamReset = Code("streamReset")
        /// The peer finished before everything expected had come.
        public static let streamEnded = Code("streamEnded")
        /// Written to after `finish`.
        public static let streamFinished = Code("streamFinished")
        public static let connectionClosed = Code("connectionClosed")
        public static let timedOut = Code("timedOut")
        public static let limitReached = Code("limitReached")
        /// The peer broke a protocol's rules.
        public static let protocolViolation = Code("protocolViolation")
        /// An address or a setting makes no sense.
        public static let invalidArgument = Code("invalidArgument")
        /// A port in use, a file that cannot be read: the system said no.
        public static let systemError = Code("systemError")
        public static let storageError = Code("storageError")
        public static let contentError = Code("contentError")
        public static let nodeStopped = Code("nodeStopped")
        public static let internalError = Code("internalError")
    }

    public let code: Code
    public let message: String
    public let cause: (any Error)?

    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    public var description: String { message }

    init(_ reason: StreamCloseReason) {
        let code: Code =
            switch reason {
            case .finished: .streamEnded
            case .resetByPeer, .resetLocally: .streamReset
            case .protocolNotSupported: .protocolNotSupported
            case .negotiationTimedOut: .timedOut
            case .protocolViolation: .protocolViolation
            case .connectionClosed: .connectionClosed
            }
        self.init(code, "\(reason)", cause: reason)
    }

    init(_ error: DialError) {
        let code: Code =
            switch error {
            case .timedOut: .timedOut
            case .limitReached: .limitReached
            default: .dialFailed
            }
        self.init(code, "\(error)", cause: error)
    }
}
