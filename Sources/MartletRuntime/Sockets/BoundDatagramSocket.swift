import CMartlet
import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A UDP socket that is bound, for a loop to take over with `DatagramSocket.init(loop:over:)`; what arrives waits in the kernel. One
/// that nobody takes over is closed when it is forgotten.
///
///     let members = try BoundDatagramSocket.group(of: loops.count, at: address)    // on any thread
///     // On each loop, of which the first few have one:
///     let socket = try DatagramSocket(loop: loop, over: members[index])
public final class BoundDatagramSocket: Sendable {
    /// With the port really bound.
    public let address: SocketAddress
    let options: DatagramOptions
    /// -1 when it was taken over.
    private let descriptor: Atomic<CInt>

    private init(_ address: SocketAddress, _ options: DatagramOptions, sharesPort: Bool = false) throws(SocketError) {
        let opened = try Descriptor.open(Descriptor.datagram, for: address)
        if options.sharesPort { Descriptor.shareAddress(opened) }
        if options.joinsDatagrams { martlet_prepare_segments(opened, address.isIP6 ? 1 : 0) }
        Descriptor.setBuffers(opened, send: options.sendBufferSize, receive: options.receiveBufferSize)
        var code = sharesPort ? martlet_share_port(opened, 1) : 0
        if code == 0 { code = Descriptor.bind(opened, to: address) }
        self.address = SocketAddress.local(of: opened) ?? address
        self.options = options
        descriptor = Atomic(opened)
        // The descriptor is closed by `deinit`.
        if code != 0 { throw SocketError(.bind, address, code: code) }
    }

    deinit {
        let descriptor = take()
        if descriptor >= 0 { Descriptor.close(descriptor) }
    }

    /// The descriptor, which the caller has to close from now on; -1 when somebody has it already.
    func take() -> CInt { descriptor.exchange(-1, ordering: .acquiringAndReleasing) }

    /// One socket.
    ///
    /// - Throws: `SocketError` that names the address.
    public static func bind(
        at address: SocketAddress, options: DatagramOptions = .init()
    ) throws(SocketError) -> BoundDatagramSocket {
        try BoundDatagramSocket(address, options)
    }

    /// Sockets that share an address and a port, among which the kernel chooses for each datagram by the connection id of QUIC in it
    /// (RFC 8999, 5): the member that is the id's first byte modulo their number. What is not QUIC's, or too short, is for the first.
    ///
    /// The first is bound alone, so that a port which others use is refused as ever.
    ///
    /// - Parameter count: how many; where the system cannot do it, or has no more sockets, there is one.
    /// - Throws: `SocketError` that names the address.
    public static func group(
        of count: Int, at address: SocketAddress, options: DatagramOptions = .init()
    ) throws(SocketError) -> [BoundDatagramSocket] {
        let first = try BoundDatagramSocket(address, options)
        guard count > 1, first.setSharing(true) else { return [first] }
        var members = [first]
        while members.count < count, let next = try? BoundDatagramSocket(first.address, options, sharesPort: true) {
            members.append(next)
        }
        if members.count == count, first.steer(count) { return members }
        _ = first.setSharing(false)
        return [first]
    }

    private func setSharing(_ isSharing: Bool) -> Bool {
        martlet_share_port(descriptor.load(ordering: .relaxed), isSharing ? 1 : 0) == 0
    }

    private func steer(_ count: Int) -> Bool {
        martlet_steer_by_connection_id(descriptor.load(ordering: .relaxed), CUnsignedInt(count)) == 0
    }
}
