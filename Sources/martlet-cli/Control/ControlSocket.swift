#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The system calls around a Unix-domain socket of a given path.
enum ControlSocket {
    /// Calls `body` with an address for `path`. A path too long for one is reached through its open directory.
    private static func withAddress<R>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) throws -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = path
        var directory: CInt = -1
        defer { if directory >= 0 { close(directory) } }
        let room = MemoryLayout.size(ofValue: address.sun_path) - 1
        if name.utf8.count > room, let slash = name.lastIndex(of: "/") {
            directory = open(String(name[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard directory >= 0 else { throw Failure.system("open", String(name[..<slash]), errno) }
            name = "/proc/self/fd/\(directory)\(name[slash...])"
        }
        let bytes = Array(name.utf8)
        guard bytes.count <= room else { throw Failure.system("use the control socket", path, ENAMETOOLONG) }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            // A sockaddr_un is made to be seen as a sockaddr.
            body(
                UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self),
                socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }

    /// A listening, non-blocking socket at `path` that only this user may connect to. One left behind by a node that
    /// was killed is replaced; the caller holds the directory's lock, so nobody listens on it.
    static func listen(at path: String) throws -> CInt {
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else {
                throw Failure("\(path) is in the way of the control socket and is not a socket", code: "systemError")
            }
            unlink(path)
        }
        let descriptor = open()
        guard descriptor >= 0 else { throw Failure.system("make the control socket", path, errno) }
        #if os(Linux)
            // The file takes the mode of the socket, so it is right from the first moment. The mask of the process, which
            // would do it, too, belongs to all its threads and to the programs that they start.
            fchmod(descriptor, 0o600)
        #endif
        let code = try withAddress(path) { bind(descriptor, $0, $1) == 0 ? 0 : errno }
        guard code == 0, chmod(path, 0o600) == 0, Glibc.listen(descriptor, 16) == 0 else {
            let failure = Failure.system("make the control socket", path, code == 0 ? errno : code)
            close(descriptor)
            throw failure
        }
        setNonBlocking(descriptor)
        return descriptor
    }

    /// A blocking connection to the node that listens at `path`; nil when none does.
    static func connect(to path: String) throws -> CInt? {
        let descriptor = open()
        guard descriptor >= 0 else { throw Failure.system("reach the control socket", path, errno) }
        let code: CInt
        do {
            code = try withAddress(path) { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
        } catch {
            close(descriptor)
            return nil
        }
        guard code != 0 else { return descriptor }
        close(descriptor)
        switch code {
        case ENOENT, ECONNREFUSED, ENOTDIR: return nil
        default: throw Failure.system("reach the control socket", path, code)
        }
    }

    private static func open() -> CInt {
        socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    }

    private static func open(_ path: String, _ flags: CInt) -> CInt { Glibc.open(path, flags) }

    /// Takes the name of the socket away, for a process that ends at once.
    static func remove(_ path: String) { unlink(path) }

    static func setNonBlocking(_ descriptor: CInt) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }
}
