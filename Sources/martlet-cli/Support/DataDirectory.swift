#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where a node keeps its key, its peers, its index of shared files and its control socket.
struct DataDirectory: Sendable {
    let path: String

    var keyFile: String { path + "/identity.key" }
    var controlSocket: String { path + "/control.sock" }
    var lockFile: String { path + "/node.lock" }

    /// The directory named on the command line, else `$MARTLET_HOME`, else `$XDG_DATA_HOME/martlet`, else
    /// `~/.local/share/martlet`.
    init(option: String?) throws {
        if let option {
            guard !option.isEmpty else { throw Failure("--data-dir is empty", code: "usage", exitStatus: .usage) }
            path = Paths.absolute(option)
        } else if let home = Self.variable("MARTLET_HOME") {
            path = Paths.absolute(home)
        } else if let data = Self.variable("XDG_DATA_HOME"), data.hasPrefix("/") {
            path = data + "/martlet"
        } else if let home = Self.variable("HOME") {
            path = home + "/.local/share/martlet"
        } else {
            throw Failure(
                "no place for the data directory: give --data-dir, or set MARTLET_HOME or HOME", code: "usage",
                exitStatus: .usage)
        }
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else { return nil }
        return value
    }

    /// Makes the directory, for its owner alone, and those above it.
    func create() throws {
        var part = ""
        for component in path.split(separator: "/") {
            part += "/" + component
            guard mkdir(part, 0o700) != 0, errno != EEXIST else { continue }
            // A parent that may not be written to may well be there already.
            var status = stat()
            let code = errno
            guard stat(part, &status) == 0 else { throw Failure.system("make the data directory", part, code) }
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure.system("use the data directory", path, ENOTDIR)
        }
    }
}

/// Paths as they are given on a command line.
enum Paths {
    /// `path` from the root, for a process that stands elsewhere. Nothing has to exist.
    static func absolute(_ path: String) -> String {
        var path = path
        if !path.hasPrefix("/") {
            var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
            guard getcwd(&buffer, buffer.count) != nil else { return path }
            path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + "/" + path
        }
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        return path
    }
}
