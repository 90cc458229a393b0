import CPortMapping
import MartletCore
import MartletReachability

/// Which routers stand between this machine and the internet.
enum RouterTrace {
    private static let hopCount = 5
    private static let timeout: CInt = 700

    /// The routers on the way to a STUN server, the nearest first, up to the first that does not tell its address. Blocks.
    static func routers(towards server: TransportAddress) -> [IPAddress] {
        guard case .v4(let ip) = server.ip else { return [] }
        var random = RandomSource.system
        // The server gets a question that it knows when it is nearer than that.
        let packet = STUNMessage.request(random.bytes(STUNMessage.transactionByteCount)).bytes
        var hops = [UInt32](repeating: 0, count: hopCount)
        martlet_trace(ip.rawValue.bigEndian, server.port, packet, packet.count, timeout, &hops, hops.count)
        return hops.prefix { $0 != 0 }.map { .v4(IPv4Address(rawValue: UInt32(bigEndian: $0))) }
    }
}
