import MartletCore
import MartletRuntime

/// What a NAT does to one client's datagrams: they go to a server from a port of the forwarder's, which can change.
final class UDPForwarder: @unchecked Sendable {
    private let group: EventLoopGroup
    private let loop: EventLoop
    // Confined to the loop.
    private let server: SocketAddress
    private var inside: DatagramSocket!
    private var outside: DatagramSocket!
    private var client: SocketAddress?
    private var lets = true
    /// Where the client sends to.
    private(set) var address = SocketAddress.loopback(port: 0)

    init(to server: SocketAddress) async throws {
        group = try EventLoopGroup(loopCount: 1)
        loop = group.loops[0]
        self.server = server
        try await loop.perform { [self] in
            inside = try DatagramSocket.bind(loop: loop, address: .loopback(port: 0))
            inside.delegate = Side { [unowned self] bytes, from in
                client = from
                if lets { try? outside.send(bytes, to: server) }
            }
            address = inside.localAddress
            try openOutside(at: .loopback(port: 0))
        }
    }

    private func openOutside(at local: SocketAddress) throws {
        outside = try DatagramSocket.bind(loop: loop, address: local)
        outside.delegate = Side { [unowned self] bytes, _ in
            if lets, let client { try? inside.send(bytes, to: client) }
        }
    }

    /// From now on the server sees another address.
    func rebind(to local: SocketAddress = .loopback(port: 0)) async throws {
        try await loop.perform { [self] in
            outside.close()
            try openOutside(at: local)
        }
    }

    /// Lets datagrams pass, or drops them.
    func letPass(_ lets: Bool) async throws {
        try await loop.perform { [self] in self.lets = lets }
    }

    func stop() async { await group.shutdown() }

    private final class Side: DatagramSocketDelegate {
        private let body: (Bytes, SocketAddress) -> Void

        init(_ body: @escaping (Bytes, SocketAddress) -> Void) { self.body = body }

        func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
            body(Bytes(copying: UnsafeRawBufferPointer(region.mutableBytes)), address)
        }
    }
}
