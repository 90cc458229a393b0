import ArgumentParser
import MartletIdentity

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where the passphrase of the key file comes from. Never from the command line itself, which every user of the machine
/// can read.
struct PassphraseOptions: ParsableArguments {
    static let variable = "MARTLET_PASSPHRASE"

    @Option(help: ArgumentHelp("Read the key file's passphrase from the first line of this file.", valueName: "file"))
    var passphraseFile: String?

    @Flag(help: "Take the key file's passphrase from the environment variable MARTLET_PASSPHRASE.")
    var passphraseEnv = false

    func validate() throws {
        guard passphraseFile == nil || !passphraseEnv else {
            throw ValidationError("Give --passphrase-file or --passphrase-env, not both.")
        }
    }

    /// The passphrase; nil when none of the options was given.
    func read() throws -> SecretBytes? {
        if passphraseEnv {
            guard let text = getenv(Self.variable).map({ String(cString: $0) }), !text.isEmpty else {
                throw Failure("the environment variable \(Self.variable) is not set", code: "usage", exitStatus: .usage)
            }
            return SecretBytes(utf8: text)
        }
        guard let passphraseFile else { return nil }
        return try Self.firstLine(of: passphraseFile)
    }

    private static let limit = 4096

    private static func firstLine(of path: String) throws -> SecretBytes {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("read the passphrase file", path, errno) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: limit + 1)
        var count = 0
        while count < bytes.count {
            let n = bytes.withUnsafeMutableBytes { buffer -> Int in
                guard let base = buffer.baseAddress else { return 0 }
                return Glibc.read(descriptor, base + count, buffer.count - count)
            }
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw Failure.system("read the passphrase file", path, errno) }
            if n == 0 { break }
            count += n
        }
        let line = bytes[..<count].prefix { $0 != 0x0A && $0 != 0x0D }
        guard line.count <= limit else { throw Failure("the passphrase in \(path) is longer than \(limit) bytes") }
        guard !line.isEmpty else { throw Failure("the passphrase file \(path) has an empty first line") }
        return SecretBytes(Array(line))
    }
}
