import MartletCore
public import MartletIdentity
public import MartletRPC

extension Node {
    /// Calls a method of `peer` and waits for its answer; connects first when need be.
    ///
    ///     let reply = try await node.call(peer, "Model.forward", message, options: .init(deadline: .seconds(5)))
    ///
    /// The call outlives a lost connection when another comes within the resume window. Cancelling the task ends the call
    /// at once, here and at the peer.
    ///
    /// - Throws: `RPCError`; its outcome says whether the call may have run.
    nonisolated(nonsending)
        public func call(
            _ peer: PeerID, _ method: String, _ message: RPCMessage = RPCMessage(),
            options: RPCCallOptions = RPCCallOptions()
        ) async throws -> RPCMessage
    {
        try await perform(.unary, peer, method, message, options)
    }

    /// Calls a method of one of several peers that could be called: once, and without waiting for a peer that is lost.
    nonisolated(nonsending)
        func callOnce(
            _ peer: PeerID, _ method: String, _ message: RPCMessage, options: RPCCallOptions
        ) async throws -> RPCMessage
    {
        let request = RPCCallRequest(
            method: method, kind: .unary, message: message, priority: options.priority, metadata: options.metadata,
            deadline: options.deadline.map { .systemNow() + $0 },
            whenCutOff: options.idempotent ? .end : .endIfNotSent)
        return try await rpc.caller(for: peer).result(of: request)
    }

    /// Sends a message to a method of `peer` without waiting for an answer: resumes when it was handed to the connection.
    ///
    /// - Throws: `RPCError` when it cannot be handed over.
    nonisolated(nonsending)
        public func send(
            _ peer: PeerID, _ method: String, _ message: RPCMessage = RPCMessage(),
            options: RPCCallOptions = RPCCallOptions()
        ) async throws
    {
        _ = try await perform(.oneWay, peer, method, message, options)
    }

    /// Begins a call of any number of messages either way.
    ///
    /// - Parameter first: sent with the call, so that a server-streaming method needs no further message.
    public func openCall(
        _ peer: PeerID, _ method: String, _ first: RPCMessage? = nil, options: RPCCallOptions = RPCCallOptions()
    ) async throws -> RPCStream {
        let request = RPCCallRequest(
            method: method, kind: .stream, message: first, priority: options.priority, metadata: options.metadata,
            deadline: options.deadline.map { .systemNow() + $0 })
        return RPCStream(try rpc.caller(for: peer).open(request))
    }

    /// The methods that `peer` offers.
    public func services(of peer: PeerID, deadline: Duration = .seconds(10)) async throws -> [RPCMethodDescription] {
        let reply = try await call(
            peer, NodeRPC.listPath, options: RPCCallOptions(deadline: deadline, priority: .control, idempotent: true))
        return reply.text.split(separator: "\n").compactMap { line in
            let parts = line.split(separator: " ")
            guard parts.count == 2 else { return nil }
            return RPCMethodDescription(path: String(parts[0]), kind: String(parts[1]))
        }
    }

    /// Attempts at an idempotent call, and the wait before the second.
    private static let attemptLimit = 3
    private static let retryDelay = Duration.milliseconds(50)

    nonisolated(nonsending)
        private func perform(
            _ kind: RPCCall.Kind, _ peer: PeerID, _ method: String, _ message: RPCMessage, _ options: RPCCallOptions
        ) async throws -> RPCMessage
    {
        let deadline = options.deadline.map { Instant.systemNow() + $0 }
        let request = RPCCallRequest(
            method: method, kind: kind, message: message, priority: options.priority, metadata: options.metadata,
            deadline: deadline)
        let caller = try rpc.caller(for: peer)
        guard options.idempotent else { return try await caller.result(of: request) }
        var attempt = 1
        while true {
            do {
                return try await caller.result(of: request)
            } catch let error as RPCError {
                guard attempt < Self.attemptLimit, error.code == .unavailable, error.outcome != .executed else {
                    throw error
                }
            }
            try await Task.sleep(for: Self.retryDelay * attempt)
            attempt += 1
        }
    }
}

/// One method that a peer offers.
public struct RPCMethodDescription: Hashable, Sendable {
    /// `Service.method`.
    public let path: String
    /// How messages flow: `unary`, `oneWay`, `serverStreaming`, `clientStreaming` or `bidirectional`.
    public let kind: String

    public init(path: String, kind: String) {
        self.path = path
        self.kind = kind
    }
}

extension RPCPeer {
    /// Makes a call and waits for its end.
    nonisolated(nonsending)
        func result(of request: RPCCallRequest) async throws -> RPCMessage
    {
        guard let call = try begin(request) else { return RPCMessage() }
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { wait(for: call, $0) }
        } onCancel: {
            cancel(call)
        }
    }
}
