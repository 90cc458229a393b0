import ArgumentParser

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@main
enum Main {
    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try await MartletCommand.asyncParseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            leave(after: error)
        }
    }

    /// Says what went wrong and ends the process with the exit code that means it.
    private static func leave(after error: any Error) -> Never {
        let code = MartletCommand.exitCode(for: error)
        // Help, the version and completion scripts come this way, too.
        if code.isSuccess || error is ExitCode { MartletCommand.exit(withError: error) }
        let isUsage = code == .validationFailure
        let failure =
            isUsage
            ? Failure(MartletCommand.message(for: error), code: "usage", exitStatus: .usage) : Failure(error)
        // With --json, a program that reads only standard output learns of the failure there, too.
        if CommandLine.arguments.contains("--json") { Output.json(FailureReport(error: failure)) }
        Output.error(failure.message)
        if isUsage, let hint = hint(in: MartletCommand.fullMessage(for: error)) { Output.progress(hint + "\n") }
        exit(failure.exitStatus.rawValue)
    }

    /// The line that says where to find help on the command that was meant.
    private static func hint(in message: String) -> String? {
        message.split(separator: "\n").last { $0.hasPrefix("  See '") }.map(String.init)
    }
}

/// What `--json` prints when the operation failed.
private struct FailureReport: Encodable {
    let error: Failure
}

struct MartletCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "An encrypted peer-to-peer mesh that moves model files between machines and calls services on them.",
        discussion: """
            Start a node with `martlet node`; the other commands talk to it over a socket in its data directory. Where no \
            node runs, `ping`, `get`, `services` and `call` start one for as long as they need it.

            Exit codes: 0 done, 1 failed, 2 a peer could not be reached (in time), 3 no node is running, 64 wrong usage.
            """,
        version: "martlet \(Version.text)",
        subcommands: [
            InitCommand.self, IDCommand.self, NodeCommand.self, RelayCommand.self, PeersCommand.self, PingCommand.self,
            DoctorCommand.self,
            ShareCommand.self,
            SharesCommand.self, UnshareCommand.self, GetCommand.self, ServicesCommand.self, CallCommand.self,
            BenchCommand.self, SimulateCommand.self,
        ])
}
