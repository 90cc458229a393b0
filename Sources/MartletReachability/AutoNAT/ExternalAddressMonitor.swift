public import MartletCore

/// Notices that the NAT in front of this machine has got another address: hosts that see this node say so.
///
/// What a host says is compared only with what it said before of the same socket: a NAT of many addresses may show each host, and
/// each socket, at another. Where it does so for each connection, that is taken for a change, but only now and then. One host of
/// several is not believed alone.
public struct ExternalAddressMonitor: Sendable {
    /// Words remembered, the latest.
    static let wordLimit = 64
    /// How soon after one change another is noticed.
    static let shortestInterval = Duration.seconds(30)

    private struct Word: Sendable {
        let host: IPAddress
        let listener: Multiaddr
        let seen: IPAddress
    }

    private var words: [Word] = []
    private var changedAt: Instant?

    public init() {}

    /// A host says at which address it sees what this node sends from a listening socket.
    ///
    /// - Returns: the address that it saw before, when that is another and so the network's address has changed.
    public mutating func noted(
        _ seen: IPAddress, by host: IPAddress, at listener: Multiaddr, now: Instant
    ) -> IPAddress? {
        let (seen, host) = (seen.unmapped, host.unmapped)
        let earlier = words.first { $0.host == host && $0.listener == listener }?.seen
        words.removeAll { $0.host == host && $0.listener == listener }
        words.append(Word(host: host, listener: listener, seen: seen))
        if words.count > Self.wordLimit { words.removeFirst() }
        guard let earlier, earlier != seen, hosts(seeing: seen) >= hosts(seeing: earlier) else { return nil }
        if let changedAt, now - changedAt < Self.shortestInterval { return nil }
        changedAt = now
        // What others saw is over, too, and will be no news when they see the new one.
        words.removeAll { $0.seen == earlier }
        return earlier
    }

    private func hosts(seeing address: IPAddress) -> Int {
        Set(words.lazy.filter { $0.seen == address }.map(\.host)).count
    }

    /// The machine is in another network.
    public mutating func reset() {
        words = []
        changedAt = nil
    }
}
