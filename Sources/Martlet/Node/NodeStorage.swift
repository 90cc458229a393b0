import MartletCore
import MartletIdentity
import MartletStorage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a node keeps on disk: its key, its peers, its index of shared files. Without a data directory it keeps only its key,
/// and that in memory.
final class NodeStorage: Sendable {
    /// The key file inside a data directory.
    static let keyFileName = "identity.key"
    /// The folder of the database inside a data directory.
    static let databaseName = "store"

    let identity: KeyPair
    let environment: StorageEnvironment?
    private let peers: Table<[UInt8], [UInt8]>?

    private init(identity: KeyPair, environment: StorageEnvironment?) throws {
        self.identity = identity
        self.environment = environment
        peers = try environment?.table("peers")
    }

    /// Opens the data directory, making it and a key when they are not there. Blocks.
    ///
    /// - Throws: `MartletError` that names the file or directory.
    static func open(_ configuration: NodeConfiguration) throws -> NodeStorage {
        guard let directory = configuration.dataDirectory else {
            return try NodeStorage(identity: configuration.identity ?? .generate(), environment: nil)
        }
        try makeDirectory(directory)
        do {
            let environment = try StorageEnvironment(directory: directory + "/" + databaseName)
            let identity = try configuration.identity ?? loadIdentity(directory, configuration.passphrase)
            return try NodeStorage(identity: identity, environment: environment)
        } catch let error as StorageError {
            throw MartletError(.storageError, "\(error)", cause: error)
        }
    }

    /// Makes a directory for this user alone, and those above it.
    private static func makeDirectory(_ path: String) throws {
        if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        let code = errno
        if code == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try makeDirectory(String(path[..<slash]))
            return try makeDirectory(path)
        }
        throw MartletError(.storageError, "cannot make the directory \(path): \(String(cString: strerror(code)))")
    }

    private static func loadIdentity(_ directory: String, _ passphrase: String?) throws -> KeyPair {
        let path = directory + "/" + keyFileName
        do {
            return try KeyFile.loadOrCreate(at: path, passphrase: passphrase.map { SecretBytes(utf8: $0) })
        } catch {
            throw MartletError(.storageError, "\(error)", cause: error)
        }
    }

    /// The peers of earlier runs.
    func loadPeers() -> [(PeerID, [UInt8])] {
        guard let environment, let peers else { return [] }
        let stored = try? environment.read { transaction in
            var found: [(PeerID, [UInt8])] = []
            try peers.scan(in: transaction) { key, value in
                if let peer = try? PeerID(bytes: key) { found.append((peer, value)) }
                return .next
            }
            return found
        }
        return stored ?? []
    }

    /// Writes peers that changed, and forgets those without a stored form. Blocks.
    func save(_ changes: [(PeerID, [UInt8]?)]) throws {
        guard let environment, let peers else { return }
        try environment.write { transaction in
            for (peer, stored) in changes {
                if let stored {
                    try peers.put(stored, for: peer.bytes, in: transaction)
                } else {
                    try peers.removeValue(for: peer.bytes, in: transaction)
                }
            }
        }
    }

    func close() {
        try? environment?.close()
    }
}
