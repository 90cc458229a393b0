/// One method of a service: how it is called, by whom it may be called, and what it does.
public final class RPCMethod: Sendable {
    /// How messages flow.
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        case unary, oneWay, serverStreaming, clientStreaming, bidirectional
    }

    public typealias Unary = @Sendable (RPCMessage, RPCContext) async throws -> RPCMessage
    public typealias OneWay = @Sendable (RPCMessage, RPCContext) async throws -> Void
    public typealias ServerStreaming = @Sendable (RPCMessage, RPCWriter, RPCContext) async throws -> Void
    public typealias ClientStreaming = @Sendable (RPCReader, RPCContext) async throws -> RPCMessage
    public typealias Bidirectional = @Sendable (RPCReader, RPCWriter, RPCContext) async throws -> Void

    /// What the method does.
    public enum Handler: Sendable {
        case unary(Unary)
        case oneWay(OneWay)
        case serverStreaming(ServerStreaming)
        case clientStreaming(ClientStreaming)
        case bidirectional(Bidirectional)
    }

    public let service: String
    public let name: String
    /// `Service.method`.
    public let path: String
    public let handler: Handler
    public let authorization: RPCAuthorization

    init(service: String, name: String, authorization: RPCAuthorization, handler: Handler) {
        self.service = service
        self.name = name
        path = service + "." + name
        self.authorization = authorization
        self.handler = handler
    }

    public var kind: Kind {
        switch handler {
        case .unary: .unary
        case .oneWay: .oneWay
        case .serverStreaming: .serverStreaming
        case .clientStreaming: .clientStreaming
        case .bidirectional: .bidirectional
        }
    }

    /// Whether the handler starts with the call's first message in hand, rather than with the call.
    package var takesOneMessage: Bool {
        switch handler {
        case .unary, .oneWay, .serverStreaming: true
        case .clientStreaming, .bidirectional: false
        }
    }
}

/// The methods of a service while it is being registered.
///
///     node.rpc.register("Model") { service in
///         service.unary("forward", authorize: .peers([worker])) { request, context in try await model.forward(request) }
///         service.oneWay("abort") { request, context in model.abort(request.text) }
///         service.serverStreaming("generate") { prompt, writer, context in
///             for await token in model.tokens(prompt) { try await writer.write(token) }
///         }
///     }
///
/// Handlers run in tasks beside the network; one that blocks or takes long affects no other call.
public struct RPCService {
    public let name: String
    private(set) var methods: [RPCMethod] = []

    init(name: String) { self.name = name }

    private mutating func add(_ name: String, _ authorization: RPCAuthorization, _ handler: RPCMethod.Handler) {
        precondition(!name.isEmpty && !name.contains("."), "a method called \"\(name)\"")
        methods.removeAll { $0.name == name }
        methods.append(RPCMethod(service: self.name, name: name, authorization: authorization, handler: handler))
    }

    /// One message in, one message out.
    public mutating func unary(
        _ name: String, authorize: RPCAuthorization = .anyone, _ handler: @escaping RPCMethod.Unary
    ) { add(name, authorize, .unary(handler)) }

    /// One message in, no answer: the caller does not learn whether it worked.
    public mutating func oneWay(
        _ name: String, authorize: RPCAuthorization = .anyone, _ handler: @escaping RPCMethod.OneWay
    ) { add(name, authorize, .oneWay(handler)) }

    /// One message in, any number out.
    public mutating func serverStreaming(
        _ name: String, authorize: RPCAuthorization = .anyone, _ handler: @escaping RPCMethod.ServerStreaming
    ) { add(name, authorize, .serverStreaming(handler)) }

    /// Any number of messages in, one out.
    public mutating func clientStreaming(
        _ name: String, authorize: RPCAuthorization = .anyone, _ handler: @escaping RPCMethod.ClientStreaming
    ) { add(name, authorize, .clientStreaming(handler)) }

    /// Any number of messages both ways, in whatever order.
    public mutating func bidirectional(
        _ name: String, authorize: RPCAuthorization = .anyone, _ handler: @escaping RPCMethod.Bidirectional
    ) { add(name, authorize, .bidirectional(handler)) }
}
