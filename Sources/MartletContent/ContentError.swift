/// Why content could not be shared, described or fetched: a code to act on, and words for people.
public struct ContentError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// A chunk size or link count that is not possible.
        case invalidLayout
        /// The CID's codec or hash function is not one that files are made of.
        case unsupportedCID
        /// The graph is not that of a file, contradicts itself, or exceeds a limit. No peer can help: it is named by its hash.
        case invalidGraph
        /// Nothing is shared under this path or CID.
        case notShared
        /// The file is no longer what was shared.
        case stale
        /// The path is not a regular file.
        case notAFile
        /// The file changed while it was read.
        case changedWhileReading
        /// A file could not be found, or a directory on the way to it.
        case notFound
        case permissionDenied
        /// The directory or file system cannot be written to.
        case readOnly
        /// The disk is full or a quota is used up. What was fetched is kept for resuming.
        case diskFull
        /// The destination exists already.
        case destinationExists
        /// Another fetch is writing to this destination.
        case inUse
        /// Every peer failed; the cause of each is in the message.
        case noPeersLeft
        /// The fetch was cancelled. What was fetched is kept for resuming.
        case cancelled
        /// This node has too much other work that blocks. What was fetched is kept for resuming.
        case overloaded
        /// The file is not in the form that was expected.
        case malformedFile
        /// Any other failure of the system.
        case system(errno: Int32)
    }

    public var code: Code
    public var message: String
    /// The file or directory that the failure is about.
    public var path: String?

    public init(_ code: Code, _ message: String, path: String? = nil) {
        self.code = code
        self.message = message
        self.path = path
    }

    public var description: String { path.map { "\($0): \(message)" } ?? message }
}
