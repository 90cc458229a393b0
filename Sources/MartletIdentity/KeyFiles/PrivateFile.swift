internal import MartletCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Files that only their owner may read, through the system's own calls: the mode is right from the first moment on.
enum PrivateFile {
    private static let mode: mode_t = 0o600

    /// Writes a new file, which appears under `path` complete or not at all and never replaces one.
    static func create(_ content: SecretBytes, at path: String) throws(KeyFileError) {
        var random = RandomSource.system
        let temporary = path + ".\(hexadecimal(random.bytes(8))).new"
        let descriptor = retrying { open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode) }
        guard descriptor >= 0 else { throw failure("create", temporary) }
        defer { unlink(temporary) }
        do {
            defer { close(descriptor) }
            // The umask takes bits away, and the key must be readable for its owner.
            guard fchmod(descriptor, mode) == 0 else { throw failure("set the mode of", temporary) }
            try write(content, to: descriptor, path: temporary)
            guard retrying({ fsync(descriptor) }) == 0 else { throw failure("flush", temporary) }
        }
        // Unlike a rename, a link fails when there is something under the name.
        guard link(temporary, path) == 0 else {
            if errno == EEXIST { throw .alreadyExists(path: path) }
            throw failure("create", path)
        }
        synchronizeDirectory(of: path)
    }

    /// Reads a whole file of at most `limit` bytes into secret memory.
    static func read(_ path: String, limit: Int, requiresPrivateMode: Bool) throws(KeyFileError) -> SecretBytes {
        // Without O_NONBLOCK a pipe under this name would block for ever.
        let descriptor = retrying { open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) }
        guard descriptor >= 0 else {
            if errno == ENOENT { throw .notFound(path: path) }
            throw failure("open", path)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("look at", path) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notARegularFile(path: path) }
        guard !requiresPrivateMode || status.st_mode & 0o077 == 0 else {
            throw .accessibleByOthers(path: path, mode: UInt32(status.st_mode & 0o7777))
        }
        guard status.st_size <= limit else { throw .tooLong(byteCount: Int(status.st_size), limit: limit) }
        return try SecretBytes(count: Int(status.st_size)) { memory throws(KeyFileError) in
            var filled = 0
            while filled < memory.count {
                let rest = UnsafeMutableRawBufferPointer(rebasing: memory[filled...])
                let count = retrying { Int32(clamping: systemRead(descriptor, rest)) }
                guard count >= 0 else { throw failure("read", path) }
                // The file became shorter while it was read.
                guard count > 0 else { throw .damaged }
                filled += Int(count)
            }
        }
    }

    private static func write(_ content: SecretBytes, to descriptor: Int32, path: String) throws(KeyFileError) {
        try content.withUnsafeBytes { bytes throws(KeyFileError) in
            var rest = bytes[...]
            while !rest.isEmpty {
                let slice = UnsafeRawBufferPointer(rebasing: rest)
                let count = retrying { Int32(clamping: systemWrite(descriptor, slice)) }
                guard count > 0 else { throw failure("write", path) }
                rest = rest.dropFirst(Int(count))
            }
        }
    }

    /// Makes the new name last. A file system that cannot do so is not a reason to fail.
    private static func synchronizeDirectory(of path: String) {
        let directory: String
        switch path.lastIndex(of: "/") {
        case nil: directory = "."
        case path.startIndex?: directory = "/"
        case let slash?: directory = String(path[..<slash])
        }
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = fsync(descriptor)
        close(descriptor)
    }

    private static func retrying(_ call: () -> Int32) -> Int32 {
        while true {
            let result = call()
            if result >= 0 || errno != EINTR { return result }
        }
    }

    private static func failure(_ operation: String, _ path: String) -> KeyFileError {
        .system(operation: operation, path: path, errorNumber: errno)
    }
}

private func systemRead(_ descriptor: Int32, _ memory: UnsafeMutableRawBufferPointer) -> Int {
    read(descriptor, memory.baseAddress, memory.count)
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
    write(descriptor, bytes.baseAddress, bytes.count)
}
