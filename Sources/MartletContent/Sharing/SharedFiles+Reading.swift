import MartletCore
import MartletIdentity
import MartletStorage
import Synchronization

/// Files that are open for serving, the last used ones: opening one for every leaf would cost more than reading it.
struct OpenShares: Sendable {
    static let limit = 64

    struct Entry: Sendable {
        let file: SharedFile
        let handle: ReadableFile
    }

    // Few, so a plain array, the last used at the end.
    private var entries: [Entry] = []

    mutating func find(_ root: CID) -> Entry? {
        guard let index = entries.lastIndex(where: { $0.file.root == root }) else { return nil }
        if index < entries.count - 1 { entries.append(entries.remove(at: index)) }
        return entries[entries.count - 1]
    }

    mutating func insert(_ entry: Entry) {
        entries.removeAll { $0.file.id == entry.file.id }
        if entries.count == Self.limit { entries.removeFirst() }
        entries.append(entry)
    }

    mutating func forget(_ id: UInt64) { entries.removeAll { $0.file.id == id } }
}

/// A block read for sending: in a buffer with room for a header in front of it.
enum BlockRead {
    case found(BytesStorage, byteCount: Int)
    case missing(BlockStream.Status)
    /// Neither this leaf nor the others of the same kind.
    case absent(BlockStream.Status, BlockServerSession.Extent)
}

// What the server reads. All of it blocks.
extension SharedFiles {
    /// Reads a leaf of the file `root`, from any of its shares that is still what it was.
    func readLeaf(_ index: UInt64, of root: CID, _ buffers: LeafBuffers) throws -> BlockRead {
        if let entry = opened.withLock({ $0.find(root) }) {
            guard let range = entry.file.layout.leafRange(index, of: entry.file.byteCount) else {
                return .absent(.notFound, .range)
            }
            if let read = try read(entry, range.offset, range.byteCount, buffers) { return read }
        }
        // Not open, or just found changed: the other shares of the same content.
        let shares = try records(of: root)
        guard let first = shares.first else { return .absent(.notFound, .request) }
        guard let range = first.layout.leafRange(index, of: first.byteCount) else { return .absent(.notFound, .range) }
        for share in shares where share.state == .current {
            guard let entry = try openShare(share) else { continue }
            if let read = try read(entry, range.offset, range.byteCount, buffers) { return read }
        }
        return .absent(.stale, .request)
    }

    /// Reads a block: an inner node, or a leaf of whatever shared file holds it.
    func readBlock(_ cid: CID, _ buffers: LeafBuffers) throws -> BlockRead {
        guard let digest = cid.multihash.sha256 else { return .missing(.notFound) }
        if let stored = try readStored(cid.multihash, buffers) { return stored }
        let places = try storage.read { transaction -> [(SharedFile, LeafPlace)] in
            var places: [(SharedFile, LeafPlace)] = []
            try leaves.scan(prefix: digest.bytes, in: transaction) { key, place in
                if let file = try files.value(for: key.fileID, in: transaction) { places.append((file, place)) }
                return places.count < 16 ? .next : .stop
            }
            return places
        }
        guard !places.isEmpty else { return .missing(.notFound) }
        for (file, place) in places where file.state == .current {
            guard let entry = try openShare(file) else { continue }
            if let read = try read(entry, place.offset, Int(place.byteCount), buffers) { return read }
        }
        return .missing(.stale)
    }

    /// An inner node.
    func node(_ digest: Digest) throws -> Bytes? { try blocks.block(Multihash(digest)) }

    /// Whether there is anything to say about the graph of `root`.
    func structureStatus(of root: CID) throws -> BlockStream.Status {
        let shares = try records(of: root)
        if shares.contains(where: { $0.state == .current }) { return .found }
        if !shares.isEmpty { return .stale }
        let isStored = try storage.read { try blocks.contains(root.multihash, in: $0) }
        return isStored ? .found : .notFound
    }

    private func readStored(_ multihash: Multihash, _ buffers: LeafBuffers) throws -> BlockRead? {
        guard let block = try blocks.block(multihash) else { return nil }
        let storage = buffers.take(block.count)
        block.withUnsafeBytes { bytes in
            UnsafeMutableRawBufferPointer(rebasing: storage.mutableBytes[LeafBuffers.headRoom...]).copyMemory(
                from: bytes)
        }
        return .found(storage, byteCount: block.count)
    }

    /// Opens a share that says it is current; nil when it turns out not to be.
    private func openShare(_ file: SharedFile) throws -> OpenShares.Entry? {
        do throws(ContentError) {
            let handle = try ReadableFile(path: file.path)
            if let reason = file.identity.difference(now: try handle.identity()) {
                return try stale(file, reason)
            }
            let entry = OpenShares.Entry(file: file, handle: handle)
            opened.withLock { $0.insert(entry) }
            return entry
        } catch {
            return try stale(file, error.code == .notFound ? "it is gone" : error.message)
        }
    }

    private func stale(_ file: SharedFile, _ reason: String) throws(ContentError) -> OpenShares.Entry? {
        do {
            try markStale(file, reason)
        } catch {
            throw ContentError(.stale, "\(reason); noting it failed: \(error)", path: file.path)
        }
        return nil
    }

    /// Reads from a file that is what was shared before and after. Nil when it is not (any more).
    private func read(
        _ entry: OpenShares.Entry, _ offset: UInt64, _ byteCount: Int, _ buffers: LeafBuffers
    ) throws -> BlockRead? {
        let file = entry.file
        if let reason = file.identity.difference(now: try entry.handle.identity()) {
            _ = try stale(file, reason)
            return nil
        }
        let storage = buffers.take(byteCount)
        let room = UnsafeMutableRawBufferPointer(
            rebasing: storage.mutableBytes[LeafBuffers.headRoom..<LeafBuffers.headRoom + byteCount])
        let isWhole: Bool
        do throws(ContentError) {
            isWhole = try entry.handle.read(into: room, at: offset)
        } catch {
            // A bad sector or a network file system gone: this leaf cannot be had here, others may.
            return .missing(.failed)
        }
        if let reason = file.identity.difference(now: try entry.handle.identity()) {
            _ = try stale(file, reason)
            return nil
        }
        return isWhole ? .found(storage, byteCount: byteCount) : .missing(.failed)
    }
}
