import Foundation
import Glibc

/// The `martlet` binary that was built with the tests, run as a user runs it.
enum CommandLineTool {
    static let binary: URL = {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        return tests.deletingLastPathComponent().appendingPathComponent("martlet")
    }()

    struct Outcome {
        let status: Int32
        let output: String
        let errors: String

        var lines: [String] { output.split(separator: "\n").map(String.init) }
    }

    /// Runs a command to its end.
    static func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Outcome {
        let process = RunningTool(arguments, environment)
        return try process.finish()
    }
}

/// A command under way.
final class RunningTool: @unchecked Sendable {
    let process = ChildProcess()
    private let arguments: [String]
    private let environment: [String: String]

    init(_ arguments: [String], _ environment: [String: String] = [:]) {
        self.arguments = arguments
        var variables = ProcessInfo.processInfo.environment
        // Nothing of whoever runs the tests may matter.
        for name in ["MARTLET_HOME", "XDG_DATA_HOME", "MARTLET_PASSPHRASE"] { variables[name] = nil }
        variables["SWIFT_BACKTRACE"] = "enable=no"
        self.environment = variables.merging(environment) { $1 }
    }

    func start() throws {
        try process.run(CommandLineTool.binary.path, arguments, environment: environment)
    }

    func finish() throws -> CommandLineTool.Outcome {
        try start()
        return rest()
    }

    /// Waits for the end and returns what has not been read yet. The commands here print less than a pipe holds on
    /// standard error.
    func rest() -> CommandLineTool.Outcome {
        let output = Self.readAll(process.output)
        let errors = Self.readAll(process.errors)
        process.waitUntilExit()
        return .init(
            status: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
            errors: String(decoding: errors, as: UTF8.self))
    }

    /// The next line on standard output; nil at its end.
    func nextLine() -> String? {
        var line: [UInt8] = []
        var byte: [UInt8] = [0]
        while Self.read(process.output, &byte) > 0 {
            if byte[0] == 0x0A { return String(decoding: line, as: UTF8.self) }
            line += byte
        }
        return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
    }

    private static func read(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Int {
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count >= 0 || errno != EINTR { return count }
        }
    }

    private static func readAll(_ descriptor: Int32) -> [UInt8] {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = read(descriptor, &buffer), count > 0 { result += buffer[0..<count] }
        return result
    }
}

/// Runs `body`, which blocks, on a thread of its own: the threads that tests run on are few and shared.
func onThread(_ body: @escaping @Sendable () throws -> Void) async throws {
    try await withTaskExecutorPreference(ThreadForEach()) { try body() }
}

private final class ThreadForEach: TaskExecutor {
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        Thread { job.runSynchronously(on: self.asUnownedTaskExecutor()) }.start()
    }
}

/// The same with a folder that is gone afterwards.
func withTemporaryFolder(_ body: @escaping @Sendable (String) throws -> Void) async throws {
    let name = "martlet-cli-\(UUID().uuidString.prefix(8))"
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(name)
    try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: path) }
    try await onThread { try body(path.path) }
}

/// A node that runs with a data directory of its own and is stopped in order afterwards.
struct RunningNode {
    let tool: RunningTool
    let directory: String
    let addresses: [String]

    var address: String { addresses[0] }
    var peer: String { String(address.split(separator: "/").last ?? "") }

    static func with<T>(
        _ directory: String, _ arguments: [String] = ["--listen", "/ip4/127.0.0.1/tcp/0"],
        _ body: (RunningNode) throws -> T
    ) throws -> T {
        let tool = RunningTool(["node", "--data-dir", directory] + arguments)
        try tool.start()
        var addresses: [String] = []
        while let line = tool.nextLine(), line != "ready" { addresses.append(line) }
        guard !addresses.isEmpty, tool.process.isRunning else {
            tool.process.terminate()
            throw ToolFailure(description: "the node did not start: \(tool.rest().errors)")
        }
        defer {
            if tool.process.isRunning { tool.process.terminate() }
            tool.process.waitUntilExit()
        }
        return try body(RunningNode(tool: tool, directory: directory, addresses: addresses))
    }
}

struct ToolFailure: Error, CustomStringConvertible {
    let description: String
}

func permissions(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? 0
}
