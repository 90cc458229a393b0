/// The place of an endpoint among those that share an address. A datagram is for the one whose index is the first byte of the
/// connection id in it, modulo their number; ids that an endpoint makes begin accordingly. Whoever chooses between sockets (the
/// kernel) can see that without knowing any connection.
struct QUICMember: Hashable, Sendable {
    let index: Int
    let count: Int

    init(_ index: Int, of count: Int) {
        precondition(count > 0 && index >= 0 && index < count, "member \(index) of \(count)")
        precondition(count <= QUICEndpointGroup.maximumCount, "a group of \(count)")
        self.index = index
        self.count = count
    }

    /// Makes an id of random bytes one of this member's: changes its first byte by less than `count`.
    func claim(_ id: inout UInt8) {
        guard count > 1 else { return }
        let start = Int(id) / count * count
        id = UInt8(start + index <= 255 ? start + index : start + index - count)
    }

    /// Whom an id belongs to. The first bytes that clients make up are random.
    func owner(of id: QUICConnectionID) -> Int { Int(id.firstByte) % count }
}
