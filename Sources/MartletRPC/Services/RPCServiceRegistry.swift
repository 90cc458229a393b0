import Synchronization

/// The services that a node offers. Any thread may read and change it; calls under way keep the handler they began with.
public final class RPCServiceRegistry: Sendable {
    private struct State {
        var methods: [String: RPCMethod] = [:]
        var services: [String: [RPCMethod]] = [:]
    }

    private let state = Mutex(State())
    private let changes = Atomic<Int>(0)

    public init() {}

    /// Offers a service from now on, in place of the one of that name so far.
    ///
    /// - Parameter name: may contain dots; what follows the last dot of a called path is the method.
    public func register(_ name: String, _ build: (inout RPCService) -> Void) {
        precondition(!name.isEmpty, "a service needs a name")
        var service = RPCService(name: name)
        build(&service)
        state.withLock { state in
            for method in state.services[name] ?? [] { state.methods[method.path] = nil }
            state.services[name] = service.methods
            for method in service.methods { state.methods[method.path] = method }
        }
        changes.add(1, ordering: .releasing)
    }

    /// Offers the service no longer. Calls under way go on.
    public func unregister(_ name: String) {
        state.withLock { state in
            for method in state.services.removeValue(forKey: name) ?? [] { state.methods[method.path] = nil }
        }
        changes.add(1, ordering: .releasing)
    }

    /// The method called `path` (`Service.method`).
    public func method(_ path: String) -> RPCMethod? { state.withLock { $0.methods[path] } }

    /// All methods in the order of their paths.
    public var methods: [RPCMethod] {
        state.withLock { state in state.methods.sorted { $0.key < $1.key }.map(\.value) }
    }

    /// A number that changes whenever services do, for those who keep what they looked up.
    package var version: Int { changes.load(ordering: .acquiring) }

    /// Why `path` cannot be called: the service is unknown, or only the method.
    public func unknown(_ path: String) -> RPCError {
        let service = path.lastIndex(of: ".").map { String(path[..<$0]) } ?? path
        let isServiceKnown = state.withLock { $0.services[service] != nil }
        return RPCError(
            .unimplemented,
            isServiceKnown ? "the service \(service) has no method \(path)" : "there is no service \(service)",
            outcome: .notSent)
    }
}
