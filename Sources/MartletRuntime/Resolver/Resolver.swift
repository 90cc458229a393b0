import MartletCore
import Synchronization

/// Looks names up, with c-ares on a loop: addresses of hosts, and text records.
///
///     let resolver = Resolver(loop: group.next())
///     let addresses = try await resolver.addresses("bootstrap.example.org", port: 4001)
///     let records = try await resolver.textRecords("_dnsaddr.bootstrap.example.org")
///
/// Numeric hosts are answered at once, `/etc/hosts` comes before DNS. Any task on any executor may ask; cancelling the task
/// ends the wait. Without look-ups it holds neither sockets nor memory, so the next one sees a changed `resolv.conf`.
public final class Resolver: Sendable {
    /// How look-ups are made.
    public struct Configuration: Sendable {
        /// The time for a whole look-up.
        public var timeout = Duration.seconds(10)
        /// The time for one try of one server, and how often each is tried.
        public var tryTimeout = Duration.seconds(2)
        public var tries = 3
        /// Look-ups at the same time; more are refused.
        public var maximumQueries = 256
        /// Results of one look-up; more are dropped.
        public var maximumResults = 64
        /// The servers to ask; nil for the system's.
        public var servers: [SocketAddress]?

        public init() {}
    }

    /// Which addresses are wanted.
    public enum Family: Sendable { case any, ip4, ip6 }

    public let configuration: Configuration
    private let loop: EventLoop
    private let channel: ResolverChannel

    public init(loop: EventLoop, configuration: Configuration = .init()) {
        self.loop = loop
        self.configuration = configuration
        channel = ResolverChannel(loop: loop, configuration: configuration)
    }

    /// The addresses of `host`, which may be numeric, best first, all with `port`.
    public func addresses(
        _ host: String, port: UInt16 = 0, family: Family = .any
    ) async throws(ResolverError) -> [SocketAddress] {
        if let numeric = SocketAddress(numericHost: host, port: port) {
            guard family == .any || numeric.isIP4 == (family == .ip4) else { throw .notFound(name: host) }
            return [numeric]
        }
        let query = AddressQuery(name: host, family: family, limit: configuration.maximumResults)
        return try await run(query).map { $0.with(port: port) }
    }

    /// The text records of `name`, each joined from its pieces.
    public func textRecords(_ name: String) async throws(ResolverError) -> [String] {
        try await run(TextQuery(name: name, limit: configuration.maximumResults))
    }

    private func run<T>(_ query: ResolverQuery<T>) async throws(ResolverError) -> [T] {
        guard query.isNameValid else { throw .invalidName(query.name) }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                guard query.wait(continuation) else { return }
                let channel = channel
                if !loop.execute({ channel.begin(query) }) { query.resolve(.failure(.shutDown)) }
            }
        } onCancel: {
            // The answer, when it comes, finds nobody waiting.
            query.resolve(.failure(.cancelled))
        }
        return try result.get()
    }
}

/// A look-up: who waits for it, and what of the answer is wanted.
class AnyResolverQuery: @unchecked Sendable {
    let name: String
    /// Used in-loop.
    var timer: LoopTimer?

    init(name: String) { self.name = name }

    /// What can be handed to a resolver library: the rest of the rules is its business.
    var isNameValid: Bool {
        !name.isEmpty && name.utf8.count <= 254 && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    var isWaiting: Bool { false }
    func fail(_ error: ResolverError) {}
    /// Hands the question to c-ares. In-loop.
    func start(_ channel: ResolverChannel) {}
}

class ResolverQuery<T: Sendable>: AnyResolverQuery, @unchecked Sendable {
    typealias Answer = Result<[T], ResolverError>

    private enum State {
        case new
        case waiting(CheckedContinuation<Answer, Never>)
        case done(Answer?)
    }

    private let state = Mutex(State.new)

    /// False when it is over already, which the continuation has been told.
    func wait(_ continuation: CheckedContinuation<Answer, Never>) -> Bool {
        let early = state.withLock { state -> Answer? in
            if case .done(let answer) = state { return answer ?? .failure(.cancelled) }
            state = .waiting(continuation)
            return nil
        }
        if let early { continuation.resume(returning: early) }
        return early == nil
    }

    /// Ends the wait; only the first answer counts.
    func resolve(_ answer: Answer) {
        let waiting = state.withLock { state -> CheckedContinuation<Answer, Never>? in
            switch state {
            case .new: state = .done(answer)
            case .waiting(let continuation):
                state = .done(nil)
                return continuation
            case .done: break
            }
            return nil
        }
        waiting?.resume(returning: answer)
    }

    override var isWaiting: Bool {
        state.withLock { if case .waiting = $0 { true } else { false } }
    }

    override func fail(_ error: ResolverError) { resolve(.failure(error)) }
}
