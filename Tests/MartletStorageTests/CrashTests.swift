import Glibc
import MartletCore
import TemporaryFiles
import Testing

@testable import MartletStorage

/// A process that is killed in the middle of writing leaves a database that opens and holds whole transactions only.
///
/// The test binary starts itself again with this variable set; the child writes until it is killed.
private let childVariable = "MARTLET_CRASH_CHILD_DIRECTORY"

@Suite struct CrashTests {
    @Test(.enabled(if: getenv(childVariable) != nil)) func crashChildWrites() throws {
        let storage = try StorageEnvironment(directory: String(cString: getenv(childVariable)))
        let left = try storage.table("left", keys: UInt64.self, values: Bytes.self)
        let right = try storage.table("right", keys: UInt64.self, values: Bytes.self)
        for round in 0..<UInt64.max {
            let value = Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 3000))
            try storage.write { transaction throws in
                try left.put(value, for: round % 50, in: transaction)
                try right.put(value, for: round % 50, in: transaction)
            }
        }
    }

    @Test(.enabled(if: getenv(childVariable) == nil)) func aKilledWriterLeavesWholeTransactions() throws {
        let directory = TemporaryDirectory()
        for round in 1...3 {
            let child = try spawnChild(directory.path)
            // Long enough to be among the writes; where exactly does not matter.
            usleep(300_000)
            kill(child, SIGKILL)
            var status: Int32 = 0
            waitpid(child, &status, 0)
            let storage = try StorageEnvironment(directory: directory.path)
            let left = try storage.table("left", keys: UInt64.self, values: Bytes.self)
            let right = try storage.table("right", keys: UInt64.self, values: Bytes.self)
            try storage.read { transaction throws in
                #expect(try left.count(in: transaction) == right.count(in: transaction), "round \(round)")
                try left.scan(in: transaction) { key, value throws in
                    #expect(try right.value(for: key, in: transaction) == value)
                    return .next
                }
            }
            try storage.close()
        }
    }

    private func spawnChild(_ directory: String) throws -> pid_t {
        var arguments = Array(CommandLine.arguments)
        while let filter = arguments.firstIndex(of: "--filter") { arguments.removeSubrange(filter...(filter + 1)) }
        arguments += ["--filter", "crashChildWrites"]
        let environment = [
            "\(childVariable)=\(directory)",
            "LD_LIBRARY_PATH=\(getenv("LD_LIBRARY_PATH").map { String(cString: $0) } ?? "")",
        ]
        let argv = arguments.map { strdup($0) } + [nil]
        let envp = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var child: pid_t = 0
        let result = posix_spawn(&child, "/proc/self/exe", nil, nil, argv, envp)
        try #require(result == 0)
        return child
    }
}
