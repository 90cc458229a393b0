import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// What a node keeps for Lattica's protocols.
final class LatticaState: Sendable {
    /// What is offered to Lattica nodes only.
    let services = RPCServiceRegistry()
    let budget = LatticaBudget()

    private struct State {
        var limits = LatticaLimits()
        /// Services of other registries that Lattica nodes may call, too.
        var shared: [String: RPCServiceRegistry] = [:]
        var peers: [PeerID: LatticaPeer] = [:]
        /// So many peers are remembered before those are looked for that are gone.
        var sweepCount = 256
        var isEnabled = false
        var isServing = false
        var random = RandomSource.system
    }

    private let state = Mutex(State())

    var limits: LatticaLimits {
        get { state.withLock { $0.limits } }
        set { state.withLock { $0.limits = newValue } }
    }

    func share(_ name: String, from registry: RPCServiceRegistry) { state.withLock { $0.shared[name] = registry } }

    func unshare(_ name: String) { state.withLock { $0.shared[name] = nil } }

    /// True the first time.
    func enable() -> Bool {
        state.withLock { state in
            defer { state.isEnabled = true }
            return !state.isEnabled
        }
    }

    /// True the first time.
    func startServing() -> Bool {
        state.withLock { state in
            defer { state.isServing = true }
            return !state.isServing
        }
    }

    // MARK: Methods

    /// How a Lattica node calls a method.
    enum Way {
        case unary
        case stream
    }

    /// The method to run for `path`, or what a Lattica node would say instead.
    func method(_ path: String, _ way: Way) -> Result<RPCMethod, RPCError> {
        let parts = path.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return .failure(RPCError(.invalidArgument, "Invalid method format")) }
        let service = String(parts[0])
        let shared = state.withLock { $0.shared[service] }
        if let method = services.method(path) ?? shared?.method(path), Self.isOffered(method, way) {
            return .success(method)
        }
        let isKnown = [services, shared].contains { $0?.methods.contains { $0.service == service } ?? false }
        guard isKnown else { return .failure(RPCError(.unimplemented, "Service \(service) not found")) }
        let text =
            switch way {
            case .unary: "Method _handle_\(parts[1]) not found"
            case .stream: "Stream method _handle_stream_\(parts[1]) not found"
            }
        return .failure(RPCError(.unimplemented, text))
    }

    private static func isOffered(_ method: RPCMethod, _ way: Way) -> Bool {
        switch method.handler {
        case .unary, .oneWay: true
        case .serverStreaming: way == .stream
        case .clientStreaming, .bidirectional: false
        }
    }

    // MARK: Peers

    /// What there is for calls to `peer`, until `leave`.
    func enter(_ peer: PeerID) -> LatticaPeer {
        state.withLock { state in
            if state.peers.count >= state.sweepCount {
                state.peers = state.peers.filter { !$0.value.isForgettable() }
                state.sweepCount = max(256, 2 * state.peers.count)
            }
            let entry = state.peers[peer] ?? LatticaPeer(id: peer, limits: state.limits)
            state.peers[peer] = entry
            entry.addUser()
            return entry
        }
    }

    func leave(_ peer: LatticaPeer) {
        state.withLock { state in
            guard peer.removeUser(), state.peers[peer.id] === peer else { return }
            state.peers[peer.id] = nil
        }
    }

    /// A fresh id for a call: a random UUID as text, as Lattica's own clients send.
    func makeCallID() -> String {
        var bytes = state.withLock { $0.random.bytes(16) }
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if index == 4 || index == 6 || index == 8 || index == 10 { text += "-" }
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return text
    }
}
