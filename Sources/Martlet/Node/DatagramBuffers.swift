/// What the kernel keeps for datagrams that wait at the node's UDP sockets, beside what QUIC needs to lose none at high rates.
public struct DatagramBuffers: Hashable, Sendable {
    /// 8 MiB for those that came in: the kernel counts 2,304 bytes for a packet of 1,452, and twice what it is asked for. That is
    /// 7,200 packets, which come in 85 ms at 1 Gbit/s; a program that is not scheduled for as long loses none.
    public static let wanted = DatagramBuffers(receiveByteCount: 8 << 20, sendByteCount: 4 << 20)

    /// Bytes of the socket that has least.
    public var receiveByteCount: Int
    public var sendByteCount: Int

    public init(receiveByteCount: Int, sendByteCount: Int) {
        self.receiveByteCount = receiveByteCount
        self.sendByteCount = sendByteCount
    }

    /// Half of what is wanted does, so that a system set up for other programs over QUIC, which want 7.5 MB, is left in peace.
    private var receiveIsSmall: Bool { receiveByteCount < Self.wanted.receiveByteCount / 2 }
    private var sendIsSmall: Bool { sendByteCount < Self.wanted.sendByteCount / 2 }

    /// Whether packets are likely to be lost for lack of room.
    public var areSmall: Bool { receiveIsSmall || sendIsSmall }

    /// The command that has the system grant what is wanted; nil where it does enough.
    public var remedy: String? {
        guard areSmall else { return nil }
        #if os(Linux)
            let settings = [
                receiveIsSmall ? "net.core.rmem_max=\(Self.wanted.receiveByteCount)" : nil,
                sendIsSmall ? "net.core.wmem_max=\(Self.wanted.sendByteCount)" : nil,
            ]
            return "sysctl -w " + settings.compactMap(\.self).joined(separator: " ")
        #else
            return "sysctl -w kern.ipc.maxsockbuf=\(2 * Self.wanted.receiveByteCount)"
        #endif
    }

    func least(_ other: DatagramBuffers) -> DatagramBuffers {
        DatagramBuffers(
            receiveByteCount: min(receiveByteCount, other.receiveByteCount),
            sendByteCount: min(sendByteCount, other.sendByteCount))
    }
}
