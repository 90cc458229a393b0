import MartletCore
import MartletQUIC
import MartletRuntime
import Synchronization

/// Brings a socket what came to another one of its group. Who is flooded loses datagrams here, as in the kernel.
final class QUICHandover: LoopWork, @unchecked Sendable {
    enum Item {
        case datagram(ForwardedDatagram)
        /// Not QUIC's.
        case packet(Bytes, SocketAddress)
    }

    /// How many may wait; the longest has 9,000 bytes.
    static let limit = 256

    private let loop: EventLoop
    private let items = Mutex(RingBuffer<Item>(limit: limit))
    /// Confined to the loop once it is set.
    weak var socket: QUICSocket?

    init(loop: EventLoop) { self.loop = loop }

    /// From any thread.
    func hand(_ item: Item) {
        if items.withLock({ $0.append(item) }) { loop.schedule(self) }
    }

    override func run() {
        guard let socket else { return }
        // What comes meanwhile has this scheduled again.
        for _ in 0..<Self.limit {
            guard let item = items.withLock({ $0.popFirst() }) else { break }
            switch item {
            case .datagram(let datagram): socket.received(datagram)
            case .packet(let bytes, let address): socket.take(bytes.array, address)
            }
        }
        socket.datagramBatchEnded()
    }
}
