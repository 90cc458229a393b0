import MartletCore
import MartletReachability
import MartletRuntime

/// A UDP socket that does nothing but answer STUN, beside the one that QUIC listens on: a NAT that gives every port of a
/// destination another mapping shows it by what the two say.
final class STUNServer: DatagramSocketDelegate {
    private unowned let socket: DatagramSocket
    private var responder = STUNResponder()

    init(_ socket: DatagramSocket) { self.socket = socket }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        guard region.count <= 256, let ip = address.ipAddress,
            let answer = responder.answer(
                Array(region.mutableBytes), from: TransportAddress(ip, port: address.port), other: nil,
                now: socket.loop.now)
        else { return }
        // A full queue drops what may be lost anyway.
        try? socket.send(Bytes(answer), to: address)
    }
}
