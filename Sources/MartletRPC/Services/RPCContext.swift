public import MartletCore
public import MartletIdentity

/// What a handler knows of the call it serves.
public struct RPCContext: Sendable {
    /// Who calls, proven by the connection.
    public let peer: PeerID
    /// `Service.method` as it was called.
    public let method: String
    public let metadata: RPCMetadata
    /// When the caller stops waiting; nil for never. The handler's task is cancelled then.
    public let deadline: Instant?
    public let priority: RPCPriority

    public init(
        peer: PeerID, method: String, metadata: RPCMetadata = [:], deadline: Instant? = nil,
        priority: RPCPriority = .activation
    ) {
        self.peer = peer
        self.method = method
        self.metadata = metadata
        self.deadline = deadline
        self.priority = priority
    }
}

/// Who may call a method.
public enum RPCAuthorization: Sendable {
    /// Every peer that can connect.
    case anyone
    case peers(Set<PeerID>)
    /// Those for whom the closure says true. It runs beside the network, before the handler.
    case check(@Sendable (PeerID, RPCMetadata) async -> Bool)

    /// - Throws: `RPCError` with `.permissionDenied`.
    public func require(_ context: RPCContext) async throws(RPCError) {
        let isAllowed =
            switch self {
            case .anyone: true
            case .peers(let peers): peers.contains(context.peer)
            case .check(let check): await check(context.peer, context.metadata)
            }
        guard isAllowed else {
            throw RPCError(.permissionDenied, "\(context.peer) may not call \(context.method)", outcome: .notSent)
        }
    }
}
