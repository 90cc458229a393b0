public import MartletCore
import MartletIdentity
import Synchronization

/// What a node lets peers make it dial back. The numbers are those of go.
public struct AutoNATServerConfiguration: Hashable, Sendable {
    /// Requests a minute, of everybody and of one peer, and of those with an address that is not the peer's own.
    public var requestsPerMinute = 60
    public var requestsPerMinuteAndPeer = 12
    public var foreignRequestsPerMinute = 12
    /// Whether private and loopback addresses are dialed: only in networks that are private as a whole, for a peer can make
    /// this node connect to any machine that it can reach.
    public var allowsPrivateAddresses = false
    /// How long dials of addresses that are not the peer's own wait at most, by chance, so that they cannot be aimed in time.
    public var longestDelay = Duration.seconds(3)

    public init() {}
}

/// Decides which dial requests of peers are served. All streams of a node share it; any thread may call it.
public final class AutoNATServer: Sendable {
    /// What to do about a request.
    enum Decision: Hashable, Sendable {
        case dial(index: Int, Multiaddr)
        /// The address is not the peer's own: it has to send so many bytes first.
        case dialAfterData(index: Int, Multiaddr, byteCount: Int)
        case reject
        case refuse
    }

    public let configuration: AutoNATServerConfiguration
    /// Which transports this node can dial.
    private let canDial: @Sendable (Multiaddr) -> Bool
    private let state: Mutex<State>

    private struct State {
        var random: RandomSource
        var window = RequestWindow()
    }

    public init(
        configuration: AutoNATServerConfiguration = AutoNATServerConfiguration(), random: RandomSource,
        canDial: @escaping @Sendable (Multiaddr) -> Bool
    ) {
        self.configuration = configuration
        self.canDial = canDial
        state = Mutex(State(random: random))
    }

    /// Chooses what to do about the request of `peer`, which is connected from `remoteAddress`.
    func decide(_ addresses: [Multiaddr?], of peer: PeerID, at remoteAddress: Multiaddr, now: Instant) -> Decision {
        // Through a relay, the peer's own address is not known.
        guard !remoteAddress.isCircuit, let ownIP = remoteAddress.ipAddress?.unmapped else { return .reject }
        let choice = addresses.enumerated().lazy.compactMap { index, address in
            address.flatMap { self.isWilling($0) ? (index: index, address: $0) : nil }
        }.first
        return state.withLock { state in
            // Requests that come to nothing count, too.
            guard state.window.admit(peer, configuration, now: now) else { return .reject }
            guard let choice else { return .refuse }
            if choice.address.ipAddress?.unmapped == ownIP { return .dial(index: choice.index, choice.address) }
            guard state.window.admitForeign(configuration) else { return .reject }
            let count = Int.random(in: AutoNAT.dialDataByteCounts, using: &state.random)
            return .dialAfterData(index: choice.index, choice.address, byteCount: count)
        }
    }

    /// How long to wait before dialing an address that is not the peer's own.
    func delay() -> Duration {
        state.withLock { state in
            .nanoseconds(
                Int64.random(in: 0...max(0, configuration.longestDelay.nanoseconds), using: &state.random))
        }
    }

    private func isWilling(_ address: Multiaddr) -> Bool {
        // No names: what they stand for can change between the check and the dial.
        guard !address.isCircuit, let ip = address.ipAddress, address.port != 0, address.domainName == nil,
            canDial(address)
        else { return false }
        switch ip.unmapped.scope {
        case .global: return true
        case .privateNetwork, .carrierNAT, .loopback: return configuration.allowsPrivateAddresses
        case .unspecified, .linkLocal, .multicast, .reserved: return false
        }
    }
}

/// The requests of the last minute, which their own limits bound.
struct RequestWindow {
    private var requests: [(peer: PeerID, at: Instant, isForeign: Bool)] = []

    var count: Int { requests.count }

    mutating func admit(_ peer: PeerID, _ configuration: AutoNATServerConfiguration, now: Instant) -> Bool {
        requests.removeAll { now - $0.at >= .seconds(60) }
        guard requests.count < configuration.requestsPerMinute,
            requests.count(where: { $0.peer == peer }) < configuration.requestsPerMinuteAndPeer
        else { return false }
        requests.append((peer, now, false))
        return true
    }

    /// Counts the request admitted last as one with an address that is not the peer's own.
    mutating func admitForeign(_ configuration: AutoNATServerConfiguration) -> Bool {
        guard let last = requests.indices.last,
            requests.count(where: \.isForeign) < configuration.foreignRequestsPerMinute
        else { return false }
        requests[last].isForeign = true
        return true
    }
}
