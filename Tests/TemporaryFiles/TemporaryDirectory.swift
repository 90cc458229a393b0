#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A directory that goes away with its value.
public final class TemporaryDirectory: Sendable {
    public let path: String

    public init() {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { preconditionFailure("no directory can be made in /tmp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    public func file(_ name: String) -> String { path + "/" + name }

    /// Makes or replaces a file.
    public func write(_ bytes: [UInt8], to name: String) {
        guard let handle = fopen(file(name), "w") else { preconditionFailure("cannot write \(file(name))") }
        let count = fwrite(bytes, 1, bytes.count, handle)
        precondition(fclose(handle) == 0 && count == bytes.count, "cannot write \(file(name))")
    }

    /// A file's bytes; nil when there is none.
    public func read(_ name: String) -> [UInt8]? {
        guard let handle = fopen(file(name), "r") else { return nil }
        defer { fclose(handle) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&piece, 1, piece.count, handle), count > 0 { bytes += piece[..<count] }
        return bytes
    }

    public func exists(_ name: String) -> Bool { access(file(name), F_OK) == 0 }

    private static func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                guard name != ".", name != ".." else { continue }
                if unlink(path + "/" + name) != 0 { remove(path + "/" + name) }
            }
            closedir(directory)
        }
        rmdir(path)
    }
}
