import MartletCore
import MartletQUIC
import MartletRuntime
import Synchronization

/// The sockets of one address that the node listens at, each on a loop of its own: so connections of one address use all of them. The
/// kernel brings most datagrams to the right one (`BoundDatagramSocket.group`); the rest is handed over here. The node knows the first,
/// which is the one for what is not QUIC's. Used from any thread.
final class QUICSocketGroup: Sendable {
    /// What their endpoints share.
    let endpoints: QUICEndpointGroup
    /// A socket's place is empty before it is opened and after it is closed.
    private let sockets: Mutex<[QUICSocket?]>
    private let turn = Atomic<Int>(0)

    init(count: Int) {
        var random = RandomSource.system
        endpoints = QUICEndpointGroup(count: count, random: &random)
        sockets = Mutex([QUICSocket?](repeating: nil, count: count))
    }

    func add(_ socket: QUICSocket, at index: Int) { sockets.withLock { $0[index] = socket } }
    func remove(at index: Int) { sockets.withLock { $0[index] = nil } }

    /// Those that are open.
    var members: [QUICSocket] { sockets.withLock { $0.compactMap(\.self) } }

    /// The sockets in turn: to dial from.
    func next() -> QUICSocket? {
        let (index, _) = turn.add(1, ordering: .relaxed)
        let members = members
        return members.isEmpty ? nil : members[index % members.count]
    }

    /// Hands over what came to the wrong socket. For one that is closed it is lost.
    func forward(_ datagram: ForwardedDatagram) {
        socket(at: datagram.member)?.handover.hand(.datagram(datagram))
    }

    /// Hands a datagram that is not QUIC's to the first socket.
    func forward(packet: Bytes, from address: SocketAddress) {
        socket(at: 0)?.handover.hand(.packet(packet, address))
    }

    private func socket(at index: Int) -> QUICSocket? { sockets.withLock { $0[index] } }
}
