public import MartletCore
public import MartletIdentity
public import MartletRPC

/// Calls to and from Lattica nodes.
///
///     let node = try await Node.start { $0.network = "/lattica/1.0.0" }
///     node.lattica.enable()                                    // before connecting
///     let argument = try LatticaArguments.keywords(["prompt": "hello"]).encoded()
///     let answer = try await node.lattica.call(peer, "Model.forward", argument)
///     for try await item in try await node.lattica.stream(peer, "Chat.complete", argument) { … }
///
///     node.lattica.serve("Model") { service in
///         service.unary("forward") { request, context in try await model.forward(request) }          // rpc_method, rpc_stream
///         service.serverStreaming("generate") { prompt, writer, context in … }                       // rpc_stream_iter
///     }
///
/// Payloads are bytes. What Python's side pickles is read and written with `LatticaArguments` and `PickleValue`; protobuf
/// messages go as they are. docs/protocols/lattica-rpc.md says what the protocols can and cannot do.
public struct NodeLattica: Sendable {
    static let unaryProtocol = "/rpc/req-resp/1.0.0"
    static let streamProtocol = "/rpc/stream/1.0.0"
    /// What a Lattica node asks for on every connection, and goes on asking for without a pause while it is refused.
    private static let bitswapProtocol = "/ipfs/bitswap/1.2.0"

    let node: Node
    private var state: LatticaState { node.latticaState }

    init(node: Node) { self.node = node }

    /// What peers may make the node spend. Changes hold for calls, streams and peers from then on.
    public var limits: LatticaLimits {
        get { state.limits }
        nonmutating set { state.limits = newValue }
    }

    /// Makes Lattica nodes bear with this one: accepts what they insist on opening, as far as nothing here serves it. Call it
    /// before connecting to one. Calling and serving do it, too.
    public func enable() {
        guard state.enable() else { return }
        let local = node.driver.engine.local
        for protocolID in [Self.bitswapProtocol, local.network] where protocolID.hasPrefix("/") {
            guard local.protocols.entry(for: protocolID) == nil else { continue }
            node.handle(protocolID, streamLimit: 16) { stream in while try await stream.read() != nil {} }
        }
    }

    // MARK: Serving

    /// Offers a service to Lattica nodes from now on, in place of the one of that name so far.
    ///
    /// `unary` methods can be called as `rpc_method` and as `rpc_stream`, `oneWay` methods likewise with an empty result, and
    /// `serverStreaming` methods as `rpc_stream_iter`; the others cannot be called by Lattica nodes.
    ///
    /// - Parameter name: without a dot: Lattica has exactly one, between service and method.
    public func serve(_ name: String, _ build: (inout RPCService) -> Void) {
        precondition(!name.contains("."), "Lattica knows no service with a dot in its name, such as \(name)")
        state.services.register(name, build)
        startServing()
    }

    /// Offers a service that is registered in `registry` to Lattica nodes as well.
    public func share(_ name: String, from registry: RPCServiceRegistry) {
        precondition(!name.contains("."), "Lattica knows no service with a dot in its name, such as \(name)")
        state.share(name, from: registry)
        startServing()
    }

    /// Offers the service to Lattica nodes no longer. Calls under way go on.
    public func stopServing(_ name: String) {
        state.services.unregister(name)
        state.unshare(name)
    }

    private func startServing() {
        enable()
        guard state.startServing() else { return }
        let limits = state.limits
        // The node keeps its handlers, which must not keep the node.
        let state = state
        let executor = node.executor
        node.handle(Self.unaryProtocol, streamLimit: limits.inboundUnaryCalls) { stream in
            try await LatticaUnarySession(stream: stream, state: state).run()
        }
        node.handle(Self.streamProtocol, streamLimit: limits.inboundStreams) { stream in
            try await LatticaStreamSession(stream, state: state, executor: executor).run()
        }
    }

    // MARK: Calling

    /// Calls an `rpc_method`.
    ///
    /// - Parameter timeout: how long it may take in all; nil for `limits.timeout`.
    /// - Throws: `RPCError`, whose outcome says whether the method may have run; `CancellationError`.
    public func call(
        _ peer: PeerID, _ method: String, _ argument: Bytes = Bytes(), timeout: Duration? = nil
    ) async throws -> Bytes {
        enable()
        let limits = state.limits
        let timeout = timeout ?? limits.timeout
        let entry = state.enter(peer)
        defer { state.leave(entry) }
        let request = LatticaUnaryClient.request(
            id: state.makeCallID(), method: method, argument: RPCMessage(argument))
        let isSent = LatticaFlag()
        do {
            let answer = try await withLatticaTimeout(timeout) { [node] in
                try await entry.unaryCalls.enter()
                defer { entry.unaryCalls.leave() }
                let stream = try await node.openStream(to: peer, protocol: Self.unaryProtocol)
                do {
                    return try await Self.exchange(request, on: stream, isSent, limits)
                } catch {
                    stream.reset()
                    throw error
                }
            }
            switch answer {
            case .result(let data): return data.contiguous()
            case .failed(let text): throw LatticaFailure.reported(text)
            }
        } catch {
            // A Lattica node runs nothing before the request is whole.
            let outcome: RPCError.Outcome = isSent.isSet ? .maybeExecuted : .notSent
            if error is LatticaTimedOut { throw LatticaFailure.timedOut(timeout, outcome) }
            throw LatticaFailure.error(error, outcome)
        }
    }

    private static func exchange(
        _ request: RPCMessage, on stream: MeshStream, _ isSent: LatticaFlag, _ limits: LatticaLimits
    ) async throws -> LatticaUnaryClient.Answer {
        for piece in request.pieces { try await stream.write(piece) }
        isSent.set()
        try await stream.finish()
        var client = LatticaUnaryClient(limits: limits)
        while let bytes = try await stream.read() { try client.received(bytes) }
        return try client.finished()
    }

    /// Calls an `rpc_stream` method: like `call`, with argument and result in parts.
    public func callStream(
        _ peer: PeerID, _ method: String, _ argument: Bytes = Bytes(), timeout: Duration? = nil
    ) async throws -> Bytes {
        enable()
        let timeout = timeout ?? state.limits.timeout
        let hasBegun = LatticaFlag()
        do {
            let event = try await withLatticaTimeout(timeout) { [node] in
                let call = try await LatticaOutboundCall.begin(
                    .result, node, peer, method, RPCMessage(argument), hasBegun)
                return try await call.next()
            }
            switch event {
            case .result(_, let result): return result.contiguous()
            case .failed(_, let text): throw LatticaFailure.reported(text)
            case .tooLong:
                throw RPCError(
                    .resourceExhausted, "\(LatticaError.messageTooLong(limit: state.limits.messageSize))",
                    outcome: .executed)
            case .item, .ended, .cancelled:
                throw RPCError(.internal, "no result", outcome: .maybeExecuted)
            }
        } catch is LatticaTimedOut {
            throw LatticaFailure.timedOut(timeout, hasBegun.isSet ? .maybeExecuted : .notSent)
        }
    }

    /// Calls an `rpc_stream_iter` method, and resumes when the argument was handed over.
    ///
    /// - Parameter timeout: how long the argument, and then each next item, may take; nil for `limits.timeout`.
    public func stream(
        _ peer: PeerID, _ method: String, _ argument: Bytes = Bytes(), timeout: Duration? = nil
    ) async throws -> LatticaItems {
        enable()
        let timeout = timeout ?? state.limits.timeout
        let hasBegun = LatticaFlag()
        do {
            let call = try await withLatticaTimeout(timeout) { [node] in
                try await LatticaOutboundCall.begin(.items, node, peer, method, RPCMessage(argument), hasBegun)
            }
            return LatticaItems(call, timeout: timeout)
        } catch is LatticaTimedOut {
            throw LatticaFailure.timedOut(timeout, hasBegun.isSet ? .maybeExecuted : .notSent)
        }
    }
}

extension Node {
    /// Calls to and from Lattica nodes.
    public var lattica: NodeLattica { NodeLattica(node: self) }
}
