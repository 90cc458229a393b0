#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Keeps a data directory for one process: an advisory lock on `owner.lock`, which names the process that holds it.
///
/// The lock belongs to the open file, so the kernel drops it when the process ends in whatever way.
struct DirectoryLock: ~Copyable {
    private let descriptor: Int32

    /// - Throws: `inUse` with the other's process id, or what kept the file from being opened.
    init(directory: String) throws(StorageError) {
        let path = directory + "/owner.lock"
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw StorageError(errno: errno, path: path, operation: "open") }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            let owner = Self.readOwner(file)
            close(file)
            guard number == EWOULDBLOCK else { throw StorageError(errno: number, path: path, operation: "lock") }
            throw StorageError(code: .inUse(processID: owner), path: directory, operation: "open")
        }
        // The process id is for people; the lock holds without it, also on a full disk.
        let text = Array("\(getpid())\n".utf8)
        if ftruncate(file, 0) == 0 { _ = text.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, 0) } }
        descriptor = file
    }

    /// Gives the directory back before the value goes: the database was closed.
    func release() { flock(descriptor, LOCK_UN) }

    deinit {
        // Closing the only descriptor of the open file drops the lock.
        close(descriptor)
    }

    private static func readOwner(_ file: Int32) -> Int32? {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { buffer in
            let count = pread(file, buffer.baseAddress, buffer.count, 0)
            guard count > 0 else { return nil }
            let digits = buffer[0..<count].prefix { $0 >= 0x30 && $0 <= 0x39 }
            return Int32(String(decoding: digits, as: UTF8.self))
        }
    }
}
