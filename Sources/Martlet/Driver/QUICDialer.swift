import MartletCore
import MartletRuntime

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The UDP socket from which a loop dials when no socket that listens can: opened for the first dial, one for each family of
/// addresses. Confined to its loop.
final class QUICDialer: @unchecked Sendable {
    let loop: EventLoop
    private let open: @Sendable (EventLoop, SocketAddress) throws(SocketError) -> QUICSocket
    private var ip4: QUICSocket?
    private var ip6: QUICSocket?
    private var isClosed = false

    init(loop: EventLoop, open: @escaping @Sendable (EventLoop, SocketAddress) throws(SocketError) -> QUICSocket) {
        self.loop = loop
        self.open = open
    }

    func socket(for target: SocketAddress) throws(SocketError) -> QUICSocket {
        guard !isClosed else { throw SocketError(.bind, target, code: ESHUTDOWN) }
        if let socket = target.isIP4 ? ip4 : ip6 { return socket }
        let any: IPAddress = target.isIP4 ? .v4(.any) : .v6(.any)
        let socket = try open(loop, SocketAddress(any, port: 0))
        if target.isIP4 { ip4 = socket } else { ip6 = socket }
        return socket
    }

    /// Opens no more, and closes each socket once its last connection is gone.
    func close() {
        isClosed = true
        ip4?.closeWhenIdle()
        ip6?.closeWhenIdle()
    }
}
