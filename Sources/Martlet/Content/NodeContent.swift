import MartletContent
import MartletCore
import MartletIdentity
import MartletRuntime
import MartletStorage
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a node shares. The index is opened when it is first needed; a node without a data directory keeps it in a temporary
/// one, which goes when the node stops.
final class NodeContent: Sendable {
    private struct State {
        var opening: Task<Opened, any Error>?
        var temporary: (environment: StorageEnvironment, path: String)?
    }

    /// The index and what serves it.
    struct Opened: Sendable {
        let files: SharedFiles
        let server: BlockServer
    }

    private let environment: StorageEnvironment?
    private let blocking: BlockingPool
    private let onStale: @Sendable (SharedFile) -> Void
    private let state = Mutex(State())

    init(
        environment: StorageEnvironment?, blocking: BlockingPool, onStale: @escaping @Sendable (SharedFile) -> Void
    ) {
        self.environment = environment
        self.blocking = blocking
        self.onStale = onStale
    }

    /// Opens the index, once.
    func open() async throws -> Opened {
        let task = state.withLock { state in
            if let opening = state.opening { return opening }
            let task = Task { try await self.openNow() }
            state.opening = task
            return task
        }
        return try await task.value
    }

    private func openNow() async throws -> Opened {
        let storage = try await blocking.run { try self.environment ?? self.makeTemporary() }
        let files = try await SharedFiles.open(storage, executor: blocking, staleHandler: onStale)
        return Opened(files: files, server: BlockServer(files: files, executor: blocking))
    }

    private func makeTemporary() throws -> StorageEnvironment {
        var template = Array("/tmp/martlet-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw MartletError(
                .storageError, "cannot make a temporary directory in /tmp: \(String(cString: strerror(errno)))")
        }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var configuration = StorageEnvironment.Configuration()
        configuration.durability = .lastWritesMayBeLost
        let environment = try StorageEnvironment(directory: path, configuration: configuration)
        state.withLock { $0.temporary = (environment, path) }
        return environment
    }

    /// Removes what was only for this run. Blocks.
    func close() {
        let temporary = state.withLock { $0.temporary.take() }
        guard let temporary else { return }
        try? temporary.environment.close()
        guard let directory = opendir(temporary.path) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { unlink(temporary.path + "/" + name) }
        }
        closedir(directory)
        rmdir(temporary.path)
    }
}
