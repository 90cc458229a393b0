public import MartletCore
import Synchronization

/// What the endpoints of one address share, each of which has a socket and a loop of its own: the secret of Retry tokens, which are
/// good at every one, the limits for those without a connection, so that a flood costs what it would cost a single endpoint, and at
/// which of them there are connections with an address. Used from any thread.
public final class QUICEndpointGroup: Sendable {
    /// The most endpoints of an address. Ids lose as many possibilities in one of their 16 bytes.
    public static let maximumCount = 64

    /// How often something may be done in a second.
    private struct Ration {
        private var window: Instant?
        private var used = 0

        mutating func take(_ limit: Int, now: Instant) -> Bool {
            if let window, now < window + .seconds(1) {
                guard used < limit else { return false }
            } else {
                window = now
                used = 0
            }
            used += 1
            return true
        }
    }

    /// How many connections with an address a member has.
    private struct Holder {
        let member: Int
        var count: Int
    }

    private struct State {
        var connectionCount = 0
        var handshakeCount = 0
        var resets = Ration()
        var questions = Ration()
        /// At most `count` holders each. Empty in a group of one.
        var addresses: [QUICAddress: [Holder]] = [:]
    }

    public let count: Int
    let retrySecret: [UInt8]
    private let state = Mutex(State())

    public init(count: Int, random: inout RandomSource) {
        precondition(count > 0 && count <= Self.maximumCount, "a group of \(count)")
        self.count = count
        retrySecret = random.bytes(32)
    }

    // MARK: Connections

    /// Connections that others began and that are still in the handshake, of all members.
    public var handshakeCount: Int { state.withLock { $0.handshakeCount } }

    /// Takes a place for a connection. Returns false when there is none.
    func begin(isHandshake: Bool, _ configuration: QUICConfiguration) -> Bool {
        state.withLock { state in
            guard state.connectionCount < configuration.maximumConnections,
                !isHandshake || state.handshakeCount < configuration.maximumHandshakes
            else { return false }
            state.connectionCount += 1
            if isHandshake { state.handshakeCount += 1 }
            return true
        }
    }

    func handshakeEnded() { state.withLock { $0.handshakeCount -= 1 } }

    func ended(isHandshake: Bool) {
        state.withLock { state in
            state.connectionCount -= 1
            if isHandshake { state.handshakeCount -= 1 }
        }
    }

    // MARK: Addresses

    func add(_ address: QUICAddress, at member: QUICMember) {
        guard count > 1 else { return }
        state.withLock { state in
            var holders = state.addresses[address] ?? []
            if let place = holders.firstIndex(where: { $0.member == member.index }) {
                holders[place].count += 1
            } else {
                holders.append(Holder(member: member.index, count: 1))
            }
            state.addresses[address] = holders
        }
    }

    func remove(_ address: QUICAddress, at member: QUICMember) {
        guard count > 1 else { return }
        state.withLock { state in
            guard var holders = state.addresses[address],
                let place = holders.firstIndex(where: { $0.member == member.index })
            else { return }
            holders[place].count -= 1
            if holders[place].count == 0 { holders.remove(at: place) }
            state.addresses[address] = holders.isEmpty ? nil : holders
        }
    }

    /// A member with connections to that address, not among those asked.
    func member(at address: QUICAddress, besides asked: Set64) -> Int? {
        guard count > 1 else { return nil }
        return state.withLock { state in
            state.addresses[address]?.first { !asked.contains($0.member) }?.member
        }
    }

    // MARK: Rations

    func mayReset(_ configuration: QUICConfiguration, now: Instant) -> Bool {
        state.withLock { $0.resets.take(configuration.resetsPerSecond, now: now) }
    }

    /// Whether others may be asked for the connection that a datagram resets. Only who sends from the address of a connection comes
    /// so far.
    func mayAsk(_ configuration: QUICConfiguration, now: Instant) -> Bool {
        state.withLock { $0.questions.take(configuration.resetsPerSecond, now: now) }
    }
}
