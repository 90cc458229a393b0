import CoreMetrics
import Logging
import MartletContent
public import MartletCore
import MartletIdentity
import MartletStorage
import MartletSwarm
import Synchronization

extension Node {
    /// The protocol that files are fetched over.
    public static let blocksProtocol = BlockStream.protocolID

    /// Shares the file at `path` where it lies: it is read and hashed once, not copied. Peers fetch it by the root returned.
    /// When the file changes later it is noticed and no longer served.
    ///
    /// - Parameter progress: bytes hashed and bytes in all, from time to time, on any thread.
    /// - Throws: `MartletError` with code `.contentError` or `.storageError`; the message names the file.
    @discardableResult
    public func share(_ path: String, progress: (@Sendable (Int, Int) -> Void)? = nil) async throws -> SharedContent {
        try await contentErrors {
            let opened = try await serveContent()
            let file = try await opened.files.add(path) { step in
                progress?(Int(step.doneByteCount), Int(step.byteCount))
            }
            return SharedContent(file)
        }
    }

    /// What this node shares, in the order in which it was shared. Files are looked at, so that changed ones are known.
    public func shares() async throws -> [SharedContent] {
        try await contentErrors {
            try await content.open().files.list(checking: true).map { SharedContent($0) }
        }
    }

    /// Shares the content `root` no longer. The files themselves stay.
    public func unshare(_ root: CID) async throws {
        try await contentErrors { try await content.open().files.remove(root: root) }
    }

    /// Fetches the file with the root `cid` from several peers at once and puts it at `path`.
    ///
    /// Every part is verified before it counts. When the fetch is interrupted in whatever way, the same call later goes on
    /// where it was: what had arrived is kept in `<path>.part`.
    ///
    /// - Parameters:
    ///   - peers: where to fetch from; when empty, all connected peers that serve files.
    ///   - progress: on any thread, some times a second.
    /// - Throws: `MartletError`; with `.contentError` the message says what stopped the fetch.
    @discardableResult
    public func fetch(
        _ cid: CID, to path: String, from peers: [Multiaddr] = [], replacing: Bool = false,
        progress: (@Sendable (FetchProgress) -> Void)? = nil
    ) async throws -> FetchSummary {
        let sources = peers.isEmpty ? try await connectedSources() : try await sources(at: peers)
        guard !sources.isEmpty else {
            throw MartletError(.contentError, "no peer to fetch \(cid) from: none is connected that serves files")
        }
        var options = FetchOptions()
        options.replacesExisting = replacing
        let corrupt = Mutex<[String: [Int]]>([:])
        let logger = driver.logger
        let counters = driver.counters
        let result = try await contentErrors {
            // The tasks of the fetch run beside the network, without a change of thread for each piece.
            try await withTaskExecutorPreference(driver.home) { [options] in
                try await FileFetch.run(
                    root: cid, to: path, from: sources.map(\.source), executor: blocking, options: options
                ) { event in
                    switch event {
                    case .progress(let step): progress?(FetchProgress(step))
                    case .corruptLeaf(let peer, let leaf):
                        counters.leavesRejected.increment()
                        corrupt.withLock { $0[peer, default: []].append(leaf) }
                        logger.warning("a peer sent a corrupt leaf", metadata: ["peer": "\(peer)", "leaf": "\(leaf)"])
                    case .dropped(let peer, let reason):
                        logger.info("a source is not used", metadata: ["peer": "\(peer)", "reason": "\(reason)"])
                    case .planned, .connected, .moved, .verified: break
                    }
                }
            }
        }
        let rejected = corrupt.withLock(\.self)
        return FetchSummary(
            root: cid, path: path, size: Int(result.byteCount), resumedBytes: Int(result.resumedByteCount),
            sources: zip(sources, result.peers).map { source, part in
                FetchSummary.Source(
                    peer: source.peer, bytes: Int(part.byteCount), corruptLeaves: rejected[part.name] ?? [])
            })
    }

    // MARK: Sources

    private struct Source {
        let peer: PeerID
        let source: FetchSource
    }

    /// Connects to all addresses at once. One that answers is enough; when none does, the error says why for each.
    private func sources(at addresses: [Multiaddr]) async throws -> [Source] {
        let found = await withTaskGroup(of: (Int, Result<PeerID, any Error>).self) { group in
            for (index, address) in addresses.enumerated() {
                group.addTask {
                    do {
                        return (index, .success(try await self.connect(to: address)))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            return await group.reduce(into: [Int: Result<PeerID, any Error>]()) { $0[$1.0] = $1.1 }
        }
        var sources: [Source] = []
        var failures: [String] = []
        for (index, address) in addresses.enumerated() {
            switch found[index] {
            case .success(let peer) where !sources.contains { $0.peer == peer }:
                sources.append(source(peer, at: [address]))
            case .failure(let error):
                failures.append("\(error)")
                driver.logger.warning(
                    "a source cannot be reached", metadata: ["address": "\(address)", "reason": "\(error)"])
            default: break
            }
        }
        if sources.isEmpty { throw MartletError(.dialFailed, failures.joined(separator: "; ")) }
        return sources
    }

    private func connectedSources() async throws -> [Source] {
        try await peers().filter { $0.protocols.contains(Self.blocksProtocol) }.reduce(into: []) { found, status in
            if !found.contains(where: { $0.peer == status.peer }) { found.append(source(status.peer, at: [])) }
        }
    }

    private func source(_ peer: PeerID, at addresses: [Multiaddr]) -> Source {
        let path = FetchPath(node: self, peer: peer, addresses: addresses)
        return Source(
            peer: peer,
            source: FetchSource(name: "\(peer)", moves: path.moves) { try await path.openStream() })
    }

    // MARK: Serving

    /// Serves what is shared, from now on.
    @discardableResult
    func serveContent() async throws -> NodeContent.Opened {
        let opened = try await content.open()
        guard
            isServingContent.withLock({ serving in
                defer { serving = true }
                return !serving
            })
        else { return opened }
        handle(Self.blocksProtocol, streamLimit: 16) { stream in try await opened.server.serve(stream) }
        return opened
    }

    /// Runs `body` and gives its errors the form that this API has.
    private func contentErrors<T: Sendable>(_ body: () async throws -> T) async throws -> T {
        do {
            return try await body()
        } catch let error as ContentError {
            throw MartletError(.contentError, "\(error)", cause: error)
        } catch let error as StorageError {
            throw MartletError(.storageError, "\(error)", cause: error)
        }
    }
}

extension SharedContent {
    init(_ file: SharedFile) {
        self.init(root: file.root, path: file.path, size: Int(file.byteCount), isCurrent: file.state == .current)
    }
}

extension FetchProgress {
    init(_ step: MartletContent.FetchProgress) {
        self.init(
            bytes: Int(step.doneByteCount), total: Int(step.byteCount), bytesPerSecond: step.bytesPerSecond,
            timeLeft: step.timeLeft, activePeers: step.activePeerCount)
    }
}
