public import MartletCore

/// To which hosts the listening sockets have sent something: a NAT may let these in, and no others, for as long as it remembers.
public struct ContactedHosts: Sendable {
    /// How long a contact counts after the last packet that is known of. NATs forget idle UDP flows within minutes.
    public static let lifetime = Duration.seconds(900)
    /// Contacts remembered, the oldest going first: peers can make a node send to addresses that they name.
    public static let limit = 4096

    private struct Contact: Hashable {
        let listener: Multiaddr
        let host: IPAddress
    }

    private var contacts: [Contact: Instant] = [:]

    public init() {}

    var count: Int { contacts.count }

    /// Something is sent to `host` from the socket.
    public mutating func note(_ host: IPAddress, from listener: Multiaddr, now: Instant) {
        let contact = Contact(listener: listener, host: host.unmapped)
        if contacts[contact] == nil, contacts.count >= Self.limit { makeRoom(now: now) }
        contacts[contact] = now
    }

    /// Whether something was sent there from the socket that a NAT may remember.
    public func contains(_ host: IPAddress, from listener: Multiaddr, now: Instant) -> Bool {
        guard let at = contacts[Contact(listener: listener, host: host.unmapped)] else { return false }
        return now - at < Self.lifetime
    }

    private mutating func makeRoom(now: Instant) {
        contacts = contacts.filter { now - $0.value < Self.lifetime }
        guard contacts.count >= Self.limit else { return }
        // A part at once, so that this is not done for each.
        for (contact, _) in contacts.sorted(by: { $0.value < $1.value }).prefix(Self.limit / 4) {
            contacts[contact] = nil
        }
    }
}
