import MartletCore
import MartletReachability
import MartletRuntime

/// Hears what gateways say to all hosts of the local network. Several programs of a machine may do so at once. On one loop.
final class GatewayListener: DatagramSocketDelegate {
    /// Announcements looked at in a second: a gateway that restarted says it a few times.
    private static let announcementsPerSecond = 5

    private let loop: EventLoop
    private let heard: (GatewayAnnouncement, IPAddress) -> Void
    private var socket: DatagramSocket?
    private var window = Instant(nanoseconds: .min)
    private var count = 0

    /// Where the port is taken by a program that does not share it, nothing is heard, and restarts are noticed later.
    init(loop: EventLoop, heard: @escaping (GatewayAnnouncement, IPAddress) -> Void) {
        self.loop = loop
        self.heard = heard
        var options = DatagramOptions()
        options.sendBufferSize = nil
        options.receiveBufferSize = nil
        options.sharesPort = true
        // Every host is a member of the group of all hosts that this is sent to.
        let address = SocketAddress(.v4(.any), port: GatewayAnnouncement.port)
        socket = try? DatagramSocket.bind(loop: loop, address: address, options: options)
        socket?.delegate = self
    }

    func close() {
        socket?.close()
        socket = nil
    }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        guard address.port == PCPMessage.port, let ip = address.ipAddress else { return }
        if loop.now - window >= .seconds(1) {
            window = loop.now
            count = 0
        }
        guard count < Self.announcementsPerSecond else { return }
        count += 1
        let bytes = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(region.mutableBytes))
        guard let announcement = try? GatewayAnnouncement(bytes) else { return }
        heard(announcement, ip)
    }
}
