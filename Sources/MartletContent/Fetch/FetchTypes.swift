public import MartletCore

/// A peer to fetch from: a name for people, and how to open a `/martlet/blocks/1` stream to it.
public struct FetchSource: Sendable {
    public let name: String
    /// Opens a new stream. Must end soon when its task is cancelled.
    public let openStream: @Sendable () async throws -> any ByteStream
    /// Tells when `openStream` would open a stream on a better connection than that of the last one.
    let moves: AsyncStream<Void>?

    public init(
        name: String, moves: AsyncStream<Void>? = nil, openStream: @escaping @Sendable () async throws -> any ByteStream
    ) {
        self.name = name
        self.moves = moves
        self.openStream = openStream
    }
}

/// What `openStream` throws when the peer is not there any more, as its machine says: coming back is not to be expected.
public struct FetchSourceGone: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// What can be chosen for a fetch.
public struct FetchOptions: Sendable {
    /// Writes over a file that exists.
    public var replacesExisting = false
    /// Waits at the end until everything is on the disk, and has the system begin writing before. Without it the file is
    /// complete and verified as well, but a power failure soon after may take it away.
    public var syncsToDisk = true
    public var plan = FetchPlan.Configuration()
    public var limits = BlockStream.Limits()
    public var graphLimits = GraphLimits()
    /// Leaves that have arrived and are being verified and written, in bytes; beyond it nothing more is read.
    public var workByteCount = 32 << 20
    /// Connections to one peer that may fail in a row before it is given up.
    public var maximumAttempts = 5
    /// A peer that has brought something is not given up before nothing has come for this long, unless its machine says that it
    /// is gone.
    public var resumeWindow = Duration.seconds(30)
    /// The pause after a connection that failed; it doubles, up to eight times this.
    public var retryPause = Duration.milliseconds(250)
    /// How often `progress` is told.
    public var progressInterval = Duration.milliseconds(250)

    public init() {}
}

/// What happens during a fetch, for showing and for logs.
public enum FetchEvent: Sendable {
    /// The graph is known. `notedLeafCount` leaves were left by an earlier run and are verified again.
    case planned(byteCount: UInt64?, leafCount: Int, notedLeafCount: Int)
    case connected(peer: String)
    case progress(FetchProgress)
    /// The peer sent a leaf with other content than its hash says, and is not used again in this fetch.
    case corruptLeaf(peer: String, leaf: Int)
    /// The peer goes on over a better connection.
    case moved(peer: String)
    /// The peer is not used for now, or, when the reason is final, not again.
    case dropped(peer: String, FetchPlan.DropReason)
    /// All leaves are verified; the file is being synced and renamed.
    case verified
}

/// A file that was fetched.
public struct FetchResult: Sendable {
    public let root: CID
    /// Where the file is.
    public let path: String
    public let byteCount: UInt64
    /// Taken from an earlier run.
    public let resumedByteCount: UInt64
    /// From which peers how much came that proved right.
    public let peers: [(name: String, byteCount: UInt64)]
    public let manifest: Manifest
    /// The file as it was written.
    public let identity: FileIdentity

    /// The layout of the graph; nil when its leaves are not of one size.
    public var layout: FileLayout? {
        if manifest.leaves.count == 1 {
            // One leaf fits any layout whose leaves are large enough.
            return try? FileLayout(leafByteCount: max(FileLayout().leafByteCount, Int(byteCount)))
        }
        guard case .regular(let size, let last, _) = FetchPlan.LeafSizes(manifest), last <= size else { return nil }
        // Only a graph with a full node tells how many links there may be; the usual number fits all others.
        let links = manifest.nodes.compactMap { try? DAGNode(bytes: $0.block.span).links.count }.max() ?? 0
        return FileLayout(unchecked: size, maximumLinkCount: max(FileLayout().maximumLinkCount, links))
    }
}
