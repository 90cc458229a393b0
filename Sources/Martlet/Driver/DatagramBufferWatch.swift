import Logging
import MartletRuntime
import Synchronization

/// Knows what the kernel granted to the UDP sockets of a node, and says once when that is little. Any thread may ask.
final class DatagramBufferWatch: Sendable {
    private let logger: Logger?
    private let state = Mutex<DatagramBuffers?>(nil)

    /// - Parameter logger: nil says nothing.
    init(logger: Logger?) { self.logger = logger }

    /// What the socket has that has least; nil before there was one.
    var smallest: DatagramBuffers? { state.withLock(\.self) }

    func opened(with granted: KernelBuffers) {
        let found = DatagramBuffers(receiveByteCount: granted.receive, sendByteCount: granted.send)
        let isNews = state.withLock { known in
            let wasSmall = known?.areSmall ?? false
            known = known?.least(found) ?? found
            return found.areSmall && !wasSmall
        }
        guard isNews, let remedy = found.remedy else { return }
        logger?.notice(
            "the kernel keeps little room for UDP: QUIC may lose packets at high rates",
            metadata: [
                "receive_bytes": "\(found.receiveByteCount)", "send_bytes": "\(found.sendByteCount)",
                "wanted_receive_bytes": "\(DatagramBuffers.wanted.receiveByteCount)",
                "wanted_send_bytes": "\(DatagramBuffers.wanted.sendByteCount)", "remedy": "\(remedy)",
            ])
    }
}
