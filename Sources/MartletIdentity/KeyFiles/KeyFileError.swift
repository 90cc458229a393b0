#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Why a key file could not be made or read. Each case is something that a person can act on.
public enum KeyFileError: Error, Hashable, Sendable, CustomStringConvertible {
    case notFound(path: String)
    /// There is something at `path`; a key is never replaced.
    case alreadyExists(path: String)
    case notARegularFile(path: String)
    /// Others than the owner may read or write the key: `chmod 600`. `mode` holds the permission bits.
    case accessibleByOthers(path: String, mode: UInt32)
    /// A call to the operating system failed with `errorNumber`.
    case system(operation: String, path: String, errorNumber: Int32)
    /// Larger than any key file.
    case tooLong(byteCount: Int, limit: Int)
    /// The file asks for a passphrase and none was given.
    case passphraseNeeded
    case wrongPassphrase
    /// A passphrase without a character protects nothing.
    case emptyPassphrase
    /// The file was cut short or changed since it was written.
    case damaged
    /// The file asks for more work or memory than is granted.
    case strengthOutOfBounds(operations: UInt32, memoryKibibytes: UInt32)
    /// The memory that turning the passphrase into a key takes is not there.
    case outOfMemory(memoryKibibytes: UInt32)
    /// There is no key that is accepted in the file.
    case key(KeyError)

    public var description: String {
        switch self {
        case .notFound(let path): "there is no key file at \(path)"
        case .alreadyExists(let path): "there is a file at \(path) already, which is not replaced"
        case .notARegularFile(let path): "\(path) is not a regular file"
        case .accessibleByOthers(let path, let mode):
            "the key at \(path) is open to other users (mode \(String(mode, radix: 8))): make it 600"
        case .system(let operation, let path, let errorNumber):
            "\(operation) \(path): \(String(cString: strerror(errorNumber)))"
        case .tooLong(let byteCount, let limit): "a key file of \(byteCount) bytes, the limit is \(limit)"
        case .passphraseNeeded: "the key file is protected by a passphrase"
        case .wrongPassphrase: "the passphrase is wrong"
        case .emptyPassphrase: "the passphrase is empty"
        case .damaged: "the key file is damaged"
        case .strengthOutOfBounds(let operations, let memoryKibibytes):
            "the key file asks for \(operations) passes over \(memoryKibibytes) KiB, which is out of bounds"
        case .outOfMemory(let memoryKibibytes): "\(memoryKibibytes) KiB of memory for the passphrase are not there"
        case .key(let error): "the key file: \(error)"
        }
    }
}
