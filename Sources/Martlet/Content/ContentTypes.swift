public import MartletCore
public import MartletIdentity

/// A file that this node serves to others from where it lies.
public struct SharedContent: Hashable, Sendable {
    /// What others fetch it by.
    public let root: CID
    public let path: String
    /// In bytes.
    public let size: Int
    /// False once the file has changed since it was shared; then it is not served any more.
    public let isCurrent: Bool
}

/// How far a fetch is.
public struct FetchProgress: Hashable, Sendable {
    /// Bytes verified and in the file, those of an interrupted earlier run included.
    public let bytes: Int
    /// The size of the file; zero until it is known.
    public let total: Int
    /// The speed of the last seconds.
    public let bytesPerSecond: Double
    /// Nil while it cannot be told.
    public let timeLeft: Duration?
    /// Peers that parts are being asked from.
    public let activePeers: Int
}

/// A file that was fetched, verified and put in its place.
public struct FetchSummary: Hashable, Sendable {
    /// What came from one peer.
    public struct Source: Hashable, Sendable {
        public let peer: PeerID
        /// Bytes that proved right.
        public let bytes: Int
        /// Leaves whose content was not what their hash says; the peer was not used again.
        public let corruptLeaves: [Int]
    }

    public let root: CID
    public let path: String
    /// In bytes.
    public let size: Int
    /// Taken over from an interrupted earlier run.
    public let resumedBytes: Int
    public let sources: [Source]
}
