import Glibc
import TemporaryFiles

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
