import CMartlet
import MartletCore
import MartletIdentity
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The file that a fetch writes: `NAME.part` beside the destination, with a journal of the leaves written so far in
/// `NAME.part.journal`, renamed to `NAME` when complete.
///
/// The journal is a note to the next run, not a promise: a leaf in it counts only after it has been read back and hashed
/// again. So nothing has to be synced while leaves arrive, and whatever a crash or a power failure left, wrong bytes never
/// count. A leaf is written before it is noted; after a killed process both are there, since the kernel has them.
///
/// All methods block.
final class DestinationFile: Sendable {
    let path: String
    let partPath: String
    private let journalPath: String
    private let descriptor: Int32
    private let journal = Mutex(FetchJournal?.none)
    private let wasEmpty: Bool
    private let leafByteCount = Atomic<UInt64>(0)

    /// Opens the part file, new or left by an earlier run, and keeps other fetches off it.
    ///
    /// - Throws: `destinationExists`, `inUse`, `readOnly`, `permissionDenied`, `notFound`, `diskFull`.
    init(path: String, replacing: Bool) throws(ContentError) {
        self.path = path
        partPath = path + ".part"
        journalPath = path + ".part.journal"
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT != S_IFDIR else {
                throw ContentError(.destinationExists, "is a directory", path: path)
            }
            guard replacing else { throw ContentError(.destinationExists, "exists already", path: path) }
        }
        // A part file without a journal was not made by a fetch, and is not ours to write over.
        let hasJournal = access(journalPath, F_OK) == 0
        let hasPart = stat(partPath, &status) == 0
        guard !hasPart || hasJournal || status.st_size == 0 else {
            throw ContentError(.destinationExists, "is in the way, and no fetch left it", path: partPath)
        }
        let opened = open(partPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard opened >= 0 else {
            let number = errno
            let isDirectoryTheMatter = number == ENOENT || number == EROFS || number == EACCES
            throw ContentError(
                errno: number, path: isDirectoryTheMatter ? directory(of: path) : partPath, doing: "create a file")
        }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            close(opened)
            throw ContentError(.inUse, "another fetch is writing to it", path: path)
        }
        descriptor = opened
        wasEmpty = !hasPart
    }

    deinit {
        close(descriptor)
    }

    // MARK: Preparing

    /// Makes room for the content and returns the leaves that an earlier run noted as written.
    ///
    /// - Parameter byteCount: nil when only the single leaf will tell.
    /// - Throws: `diskFull`, naming what is needed and what there is.
    func prepare(root: CID, byteCount: UInt64?, leafCount: Int) throws(ContentError) -> [Int] {
        let opened = try FetchJournal.open(journalPath, root: root, byteCount: byteCount, leafCount: leafCount)
        let noted = opened.notedLeaves
        journal.withLock { $0 = opened }
        if opened.isNew, !wasEmpty {
            // Left by a fetch of something else.
            guard ftruncate(descriptor, 0) == 0 else { throw failure("truncate") }
        }
        guard let byteCount else { return noted }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("stat") }
        if UInt64(status.st_size) > byteCount, ftruncate(descriptor, off_t(byteCount)) != 0 {
            throw failure("truncate")
        }
        if byteCount > 0 { try allocate(byteCount) }
        return noted
    }

    private func allocate(_ byteCount: UInt64) throws(ContentError) {
        let result = martlet_allocate(descriptor, 0, Int64(byteCount))
        switch result {
        case 0: return
        case ENOSPC, EDQUOT:
            // Give back what was claimed in vain; a resumed fetch keeps its part.
            if wasEmpty { abandon() }
            let free = freeByteCount.map { ", \($0) are free" } ?? ""
            throw ContentError(.diskFull, "no room for \(byteCount) bytes\(free)", path: directory(of: path))
        case EOPNOTSUPP, ENOSYS, EINVAL:
            // A file system that cannot claim blocks: then writing will tell.
            guard ftruncate(descriptor, off_t(byteCount)) == 0 else { throw failure("extend") }
        default: throw ContentError(errno: result, path: partPath, doing: "extend")
        }
    }

    private var freeByteCount: UInt64? {
        var status = statvfs()
        guard fstatvfs(descriptor, &status) == 0 else { return nil }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    // MARK: Leaves

    /// Writes a verified leaf and notes it.
    /// - Parameter startsWriteback: has the system begin to write it to the disk, so that the sync at the end is short.
    func write(_ payload: LeafPayload, leaf: Int, at offset: UInt64, startsWriteback: Bool) throws(ContentError) {
        try writeAll(payload, at: offset)
        if startsWriteback { martlet_start_writeback(descriptor, Int64(offset), Int64(payload.byteCount)) }
        try journal.withLock({ $0 })?.note(leaf)
    }

    private func writeAll(_ payload: LeafPayload, at offset: UInt64) throws(ContentError) {
        // As many slices a call as the system takes; usually all.
        let most = 1024
        var index = 0
        var skipped = 0
        var position = off_t(offset)
        while index < payload.slices.count {
            let last = min(index + most, payload.slices.count)
            let written = withUnsafeTemporaryAllocation(of: iovec.self, capacity: last - index) { vectors in
                for slice in index..<last {
                    let start = slice == index ? skipped : 0
                    // The slices live in the payload, which outlives the call.
                    payload.slices[slice].withUnsafeBytes { bytes in
                        vectors[slice - index] = iovec(
                            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress.map { $0 + start }),
                            iov_len: bytes.count - start)
                    }
                }
                return pwritev(descriptor, vectors.baseAddress, Int32(last - index), position)
            }
            if written < 0 {
                if errno == EINTR { continue }
                throw failure("write")
            }
            position += off_t(written)
            var rest = written + skipped
            while index < last, rest >= payload.slices[index].count {
                rest -= payload.slices[index].count
                index += 1
            }
            skipped = rest
        }
    }

    /// Whether the file holds this content at `offset`.
    func holds(_ digest: Digest, at offset: UInt64, byteCount: Int) throws(ContentError) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
        defer { buffer.deallocate() }
        var hasher = SHA256.Hasher()
        var done = 0
        while done < byteCount {
            let wanted = min(buffer.count, byteCount - done)
            let count = pread(descriptor, buffer.baseAddress, wanted, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("read") }
            guard count > 0 else { return false }
            hasher.update(UnsafeRawBufferPointer(rebasing: buffer[0..<count]))
            done += count
        }
        return hasher.finalize() == digest
    }

    /// A leaf that was noted turned out not to be there.
    func forget(_ leaf: Int) throws(ContentError) {
        try journal.withLock({ $0 })?.forget(leaf)
    }

    /// The size of a file of one leaf, which only the leaf itself tells.
    var notedByteCount: UInt64 { leafByteCount.load(ordering: .acquiring) }
    func noteByteCount(_ count: UInt64) { leafByteCount.store(count, ordering: .releasing) }

    // MARK: Ending

    /// Gives the complete file its name.
    /// - Parameter syncs: waits until content and name are on the disk.
    func complete(byteCount: UInt64, replacing: Bool, syncs: Bool) throws(ContentError) -> FileIdentity {
        guard ftruncate(descriptor, off_t(byteCount)) == 0 else { throw failure("truncate") }
        if syncs, fsync(descriptor) != 0 { throw failure("sync") }
        let result = replacing ? (rename(partPath, path) == 0 ? 0 : errno) : martlet_rename_exclusively(partPath, path)
        guard result == 0 else { throw ContentError(errno: result, path: path, doing: "rename") }
        // Only now: a part file without a journal would be refused.
        unlink(journalPath)
        if syncs { syncDirectory() }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("stat") }
        return FileIdentity(status)
    }

    /// Removes what was written.
    func abandon() {
        unlink(partPath)
        unlink(journalPath)
    }

    private func syncDirectory() {
        // Some file systems cannot sync directories, and the content is safe by now.
        let opened = open(directory(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { return }
        fsync(opened)
        close(opened)
    }

    private func failure(_ doing: String) -> ContentError {
        ContentError(errno: errno, path: partPath, doing: doing)
    }
}

/// The directory that holds `path`.
private func directory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
