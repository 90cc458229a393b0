import MartletCore
import MartletReachability
import MartletRuntime

/// The UDP sockets that a punch opens beside the main one, on the home loop.
final class PunchSockets {
    private let loop: EventLoop
    private var sockets: [DatagramSocket?] = []
    /// Those that QUIC has taken over.
    private(set) var adopted: [Int: QUICSocket] = [:]
    private let onPacket: (Int, [UInt8], SocketAddress) -> Void

    init(loop: EventLoop, onPacket: @escaping (Int, [UInt8], SocketAddress) -> Void) {
        self.loop = loop
        self.onPacket = onPacket
    }

    /// Opens sockets until there are `count`, or the system gives no more. Returns how many there are.
    func open(_ count: Int, on ip: IPAddress) -> Int {
        while sockets.count < count {
            guard let socket = try? QUICSocket.bind(loop: loop, at: SocketAddress(ip, port: 0)) else { break }
            let index = sockets.count
            socket.delegate = PunchSocketDelegate { [unowned self] bytes, address in onPacket(index, bytes, address) }
            sockets.append(socket)
        }
        return sockets.count
    }

    func send(_ bytes: [UInt8], from index: Int, to address: SocketAddress) {
        if let socket = adopted[index] { return socket.send(packet: bytes, to: address) }
        guard index < sockets.count else { return }
        // A full queue drops what may be lost anyway.
        try? sockets[index]?.send(Bytes(bytes), to: address)
    }

    /// Makes a socket one for QUIC; `run` does that. Nil when it is not there.
    func adopt(_ index: Int, _ run: (DatagramSocket) -> QUICSocket) -> QUICSocket? {
        if let socket = adopted[index] { return socket }
        guard index < sockets.count, let bound = sockets[index] else { return nil }
        sockets[index] = nil
        let socket = run(bound)
        adopted[index] = socket
        return socket
    }

    /// The place of an adopted socket.
    func index(of socket: QUICSocket) -> Int? { adopted.first { $0.value === socket }?.key }

    /// Closes all that QUIC has not taken over.
    func closeUnused() {
        for socket in sockets { socket?.close() }
        sockets = sockets.map { _ in nil }
    }

    /// Closes all; those of QUIC when they have no connection any more.
    func close() {
        closeUnused()
        sockets = []
        for socket in adopted.values { socket.closeWhenIdle() }
        adopted = [:]
    }
}

private final class PunchSocketDelegate: DatagramSocketDelegate {
    private let onPacket: ([UInt8], SocketAddress) -> Void

    init(_ onPacket: @escaping ([UInt8], SocketAddress) -> Void) { self.onPacket = onPacket }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        guard region.count <= 256 else { return }
        onPacket(Array(region.mutableBytes), address)
    }
}
