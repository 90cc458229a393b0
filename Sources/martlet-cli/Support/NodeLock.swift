#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Says that a node uses a data directory. The kernel gives the lock back when the process ends, however it ends.
final class NodeLock: Sendable {
    private let descriptor: CInt

    /// - Throws: `Failure` naming the process that has the directory, when another has it.
    init(_ directory: DataDirectory) throws {
        let path = directory.lockFile
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            defer { close(descriptor) }
            guard code == EWOULDBLOCK else { throw Failure.system("lock", path, code) }
            let owner = Self.owner(descriptor).map { " (process \($0))" } ?? ""
            throw Failure("a node\(owner) already runs with the data directory \(directory.path)", code: "nodeRunning")
        }
        let text = Array("\(getpid())\n".utf8)
        // The number is for people; without it the lock holds all the same.
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
    }

    private static func owner(_ descriptor: CInt) -> Int32? {
        var buffer = [UInt8](repeating: 0, count: 32)
        let n = pread(descriptor, &buffer, buffer.count, 0)
        guard n > 0 else { return nil }
        return Int32(String(decoding: buffer[..<n].prefix { $0 != 0x0A }, as: UTF8.self))
    }

    deinit { close(descriptor) }
}
