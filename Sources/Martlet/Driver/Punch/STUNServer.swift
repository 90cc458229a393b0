import MartletCore
import MartletReachability
import MartletRuntime

/// The UDP sockets that do nothing but answer STUN, beside the one that QUIC listens on: at another port of its address, and at
/// another address where this machine has several on the internet. By what comes in from them, askers learn whom their NAT lets
/// in (RFC 5780). On the loop of that socket.
final class STUNSockets {
    private struct Opened {
        let socket: DatagramSocket
        let address: TransportAddress
    }

    private let other: Opened?
    private let alternate: Opened?
    /// What askers are told of them.
    var otherAddress: TransportAddress? { other?.address }
    var alternateAddress: TransportAddress? { alternate?.address }

    init(beside ip: IPAddress?, loop: EventLoop) {
        other = Self.open(at: ip, loop)
        alternate = Self.open(at: ip.flatMap { LocalAddresses.alternate(to: $0, towards: nil) }, loop)
    }

    /// A free port there. What cannot be opened is not told of.
    private static func open(at ip: IPAddress?, _ loop: EventLoop) -> Opened? {
        guard let ip, let socket = try? DatagramSocket.bind(loop: loop, address: SocketAddress(ip, port: 0)) else {
            return nil
        }
        socket.delegate = STUNServer(socket)
        return Opened(socket: socket, address: TransportAddress(ip, port: socket.localAddress.port))
    }

    /// Sends an answer that has to come from one of these; returns false for one that does not.
    func send(_ answer: STUNResponder.Answer, to address: SocketAddress) -> Bool {
        // A full queue drops what may be lost anyway.
        switch answer.source {
        case .asked: return false
        case .other: try? other?.socket.send(Bytes(answer.bytes), to: address)
        case .alternate: try? alternate?.socket.send(Bytes(answer.bytes), to: address)
        }
        return true
    }
}

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
        try? socket.send(Bytes(answer.bytes), to: address)
    }
}
