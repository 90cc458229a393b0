import Glibc

/// A directory that goes away with its value.
final class TemporaryDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/martlet-storage-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }

    deinit { Self.remove(path) }

    static func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(cString: $0.baseAddress!.assumingMemoryBound(to: CChar.self))
                }
                guard name != ".", name != ".." else { continue }
                if unlink(path + "/" + name) != 0 { remove(path + "/" + name) }
            }
            closedir(directory)
        }
        rmdir(path)
    }
}

/// A small file system of its own, which only root can make.
final class SmallFileSystem: Sendable {
    let path: String
    private let directory = TemporaryDirectory()

    static let isPossible: Bool = {
        guard geteuid() == 0 else { return false }
        let probe = TemporaryDirectory()
        guard mount("tmpfs", probe.path, "tmpfs", 0, "size=64k") == 0 else { return false }
        umount2(probe.path, Int32(MNT_DETACH))
        return true
    }()

    init(byteCount: Int) {
        path = directory.path
        precondition(mount("tmpfs", path, "tmpfs", 0, "size=\(byteCount)") == 0)
    }

    func makeReadOnly() {
        precondition(mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }
}
