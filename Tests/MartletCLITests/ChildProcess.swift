import Glibc
import Synchronization

/// A program being run, by `posix_spawn`. Foundation's `Process` crashes now and then when several threads start one: it
/// copies directory entries beyond the end of its buffer.
final class ChildProcess: Sendable {
    enum TerminationReason { case exit, uncaughtSignal }

    private struct State {
        var identifier: pid_t = 0
        var status: Int32?
    }

    private let state = Mutex(State())
    /// Held while pipes are made and programs started, so that none inherits the pipes of another.
    private static let forks = Mutex(())
    /// What the program prints, to be read here.
    let output: Int32
    let errors: Int32
    private let ends: [Int32]

    init() {
        var output: [Int32] = [0, 0]
        var errors: [Int32] = [0, 0]
        Self.forks.withLock { _ in
            precondition(pipe(&output) == 0 && pipe(&errors) == 0, "no pipes: \(errno)")
            for descriptor in output + errors { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        }
        self.output = output[0]
        self.errors = errors[0]
        ends = [output[1], errors[1]]
    }

    deinit {
        close(output)
        close(errors)
        if processIdentifier == 0 { for end in ends { close(end) } }
    }

    func run(_ path: String, _ arguments: [String], environment: [String: String]) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, ends[0], 1)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 2)
        var words = ([path] + arguments).map { strdup($0) } + [nil]
        var variables = environment.map { strdup("\($0)=\($1)") } + [nil]
        defer { for word in words + variables { free(word) } }
        var identifier: pid_t = 0
        let code = Self.forks.withLock { _ in posix_spawn(&identifier, path, &actions, nil, &words, &variables) }
        guard code == 0 else { throw ToolFailure(description: "cannot run \(path): \(code)") }
        for end in ends { close(end) }
        state.withLock { $0.identifier = identifier }
    }

    var processIdentifier: pid_t { state.withLock { $0.identifier } }

    var isRunning: Bool { state.withLock { wait(&$0, WNOHANG) == nil } }
    var terminationStatus: Int32 {
        let status = state.withLock { wait(&$0, 0) } ?? 0
        return status & 0x7F == 0 ? status >> 8 & 0xFF : status & 0x7F
    }
    var terminationReason: TerminationReason {
        (state.withLock { wait(&$0, 0) } ?? 0) & 0x7F == 0 ? .exit : .uncaughtSignal
    }

    func waitUntilExit() { _ = state.withLock { wait(&$0, 0) } }
    func terminate() { _ = kill(processIdentifier, SIGTERM) }
    func interrupt() { _ = kill(processIdentifier, SIGINT) }

    private func wait(_ state: inout State, _ options: Int32) -> Int32? {
        guard state.status == nil, state.identifier != 0 else { return state.status }
        var status: Int32 = 0
        while true {
            let found = waitpid(state.identifier, &status, options)
            if found == state.identifier { state.status = status }
            if found >= 0 || errno != EINTR { return state.status }
        }
    }
}
