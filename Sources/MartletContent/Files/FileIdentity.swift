#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What tells whether a file is still the one that was read: any write, truncation, replacement or rename changes some
/// of it.
public struct FileIdentity: Hashable, Sendable {
    public var byteCount: UInt64
    /// Nanoseconds since 1970 of the last change of the content.
    public var modified: Int64
    /// The same for the last change of anything about the file, which programs cannot set back.
    public var changed: Int64
    public var inode: UInt64
    public var device: UInt64

    init(_ status: stat) {
        byteCount = UInt64(max(0, status.st_size))
        modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
        changed = Int64(status.st_ctim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_ctim.tv_nsec)
        inode = UInt64(status.st_ino)
        device = UInt64(status.st_dev)
    }

    init(byteCount: UInt64, modified: Int64, changed: Int64, inode: UInt64, device: UInt64) {
        self.byteCount = byteCount
        self.modified = modified
        self.changed = changed
        self.inode = inode
        self.device = device
    }

    /// What differs from how the file is `now`, in words; nil when nothing does.
    func difference(now: FileIdentity) -> String? {
        if byteCount != now.byteCount { return "its size changed from \(byteCount) to \(now.byteCount) bytes" }
        if device != now.device || inode != now.inode { return "another file took its place" }
        if modified != now.modified { return "it was written to" }
        if changed != now.changed { return "it was changed, renamed or removed" }
        return nil
    }
}

/// A regular file open for reading. Reads at offsets, from any thread.
final class ReadableFile: Sendable {
    let path: String
    private let descriptor: Int32

    /// - Throws: `notFound`, `permissionDenied`, `notAFile`.
    init(path: String) throws(ContentError) {
        // Not blocking: opening a FIFO would wait for its writer. On regular files it changes nothing.
        let opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard opened >= 0 else { throw ContentError(errno: errno, path: path, doing: "open") }
        var status = stat()
        guard fstat(opened, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(opened)
            throw ContentError(.notAFile, "not a regular file", path: path)
        }
        self.path = path
        descriptor = opened
    }

    deinit { close(descriptor) }

    func identity() throws(ContentError) -> FileIdentity {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw ContentError(errno: errno, path: path, doing: "stat") }
        return FileIdentity(status)
    }

    /// Fills `buffer` from `offset` on. False when the file ends before.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ContentError) -> Bool {
        guard let base = buffer.baseAddress else { return true }
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, base + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw ContentError(errno: errno, path: path, doing: "read")
            }
            if count == 0 { return false }
            done += count
        }
        return true
    }

    /// Tells the system what will be read soon, so that the disk works while we do.
    func willRead(at offset: UInt64, byteCount: Int) {
        #if canImport(Glibc)
            posix_fadvise(descriptor, off_t(offset), off_t(byteCount), POSIX_FADV_WILLNEED)
        #endif
    }
}

extension ContentError {
    /// The error for a failed system call.
    init(errno number: Int32, path: String, doing: String) {
        let code: Code =
            switch number {
            case ENOSPC, EDQUOT: .diskFull
            case EROFS: .readOnly
            case EACCES, EPERM: .permissionDenied
            case ENOENT, ENOTDIR: .notFound
            case EEXIST: .destinationExists
            case EISDIR: .notAFile
            default: .system(errno: number)
            }
        self.init(code, "\(doing) failed: \(systemErrorText(number))", path: path)
    }
}

/// The system's text for an error number.
func systemErrorText(_ number: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        // The XSI form, which fills the buffer and ends it with a zero byte.
        guard let base = buffer.baseAddress, strerror_r(number, base, buffer.count) == 0 else {
            return "system error \(number)"
        }
        return String(cString: base)
    }
}
