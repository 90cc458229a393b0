import Glibc

/// A small file system of its own, which only root can make.
public final class SmallFileSystem: Sendable {
    public let path: String
    private let directory = TemporaryDirectory()

    public static let isPossible: Bool = {
        guard geteuid() == 0 else { return false }
        let probe = TemporaryDirectory()
        guard mount("tmpfs", probe.path, "tmpfs", 0, "size=64k") == 0 else { return false }
        umount2(probe.path, Int32(MNT_DETACH))
        return true
    }()

    public init(byteCount: Int) {
        path = directory.path
        precondition(mount("tmpfs", path, "tmpfs", 0, "size=\(byteCount)") == 0)
    }

    public func resize(byteCount: Int) {
        precondition(mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT), "size=\(byteCount)") == 0)
    }

    public func setReadOnly(_ isReadOnly: Bool) {
        precondition(mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT) | (isReadOnly ? UInt(MS_RDONLY) : 0), nil) == 0)
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }
}
