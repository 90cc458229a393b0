import Martlet

/// What the exit code of the process says; scripts rely on the numbers (docs/cli.md).
enum ExitStatus: Int32, Codable {
    /// The operation was tried and failed.
    case failed = 1
    /// A peer could not be reached, or not in time.
    case unreachable = 2
    /// The command needs a running node and there is none.
    case noNode = 3
    /// The command line makes no sense (`EX_USAGE`).
    case usage = 64
}

/// Why a command failed: one sentence for a person, a code for a program. It also travels over the control socket.
struct Failure: Error, Codable, CustomStringConvertible {
    let code: String
    let message: String
    private let exit: Int32

    var exitStatus: ExitStatus { ExitStatus(rawValue: exit) ?? .failed }
    var description: String { message }

    private enum CodingKeys: String, CodingKey {
        case code, message
        case exit = "exitCode"
    }

    init(_ message: String, code: String = "failed", exitStatus: ExitStatus = .failed) {
        self.code = code
        self.message = message
        exit = exitStatus.rawValue
    }

    init(_ error: any Error) {
        switch error {
        case let failure as Failure:
            self = failure
        case let error as MartletError:
            self.init(error.message, code: error.code.description, exitStatus: Self.exitStatus(of: error.code))
        case let error as RPCError:
            let outcome =
                switch error.outcome {
                case .notSent: "the call did not run"
                case .maybeExecuted: "the call may have run"
                case .executed: "the call ran"
                }
            let isLost = error.code == .unavailable || error.code == .deadlineExceeded
            self.init(
                "\(error.message) (\(outcome))", code: error.code.description,
                exitStatus: isLost ? .unreachable : .failed)
        case is CancellationError:
            self.init("the operation was cancelled", code: "cancelled")
        default:
            self.init("\(error)", code: "failed")
        }
    }

    private static func exitStatus(of code: MartletError.Code) -> ExitStatus {
        switch code {
        case .dialFailed, .timedOut, .notConnected, .connectionClosed: .unreachable
        case .invalidArgument: .usage
        default: .failed
        }
    }

    /// The system said no to something that concerns `path`.
    static func system(_ doing: String, _ path: String, _ code: Int32) -> Failure {
        Failure("cannot \(doing) \(path): \(SystemError.text(code))", code: "systemError")
    }
}
