import Synchronization

/// The protocols that a node serves: what inbound streams may ask for and who then handles them.
///
/// Shared by all connections of a node; any thread may change it.
public final class ProtocolTable: Sendable {
    /// How one protocol is served.
    public struct Entry: Sendable {
        /// The largest number of inbound streams of this protocol on one connection at a time.
        public let streamLimit: Int
        /// Makes the handler of a new inbound stream; called on the connection's loop.
        public let makeHandler: @Sendable (PeerConnection) -> any StreamHandler

        public init(streamLimit: Int, makeHandler: @escaping @Sendable (PeerConnection) -> any StreamHandler) {
            self.streamLimit = streamLimit
            self.makeHandler = makeHandler
        }
    }

    private struct State {
        var entries: [String: Entry] = [:]
        var order: [String] = []
    }

    private let state = Mutex(State())

    public init() {}

    /// Serves `protocolID` from now on, replacing what served it before.
    public func register(_ protocolID: String, _ entry: Entry) {
        state.withLock { state in
            if state.entries.updateValue(entry, forKey: protocolID) == nil { state.order.append(protocolID) }
        }
    }

    public func unregister(_ protocolID: String) {
        state.withLock { state in
            state.entries[protocolID] = nil
            state.order.removeAll { $0 == protocolID }
        }
    }

    public func entry(for protocolID: String) -> Entry? { state.withLock { $0.entries[protocolID] } }

    /// All protocols in the order of their registration.
    public var protocolIDs: [String] { state.withLock { $0.order } }
}
