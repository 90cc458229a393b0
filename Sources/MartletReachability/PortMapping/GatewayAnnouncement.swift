public import MartletCore

/// What a gateway says to all hosts of its network when it started or its address changed, so that they have their ports forwarded
/// again at once: PCP's unsolicited ANNOUNCE (RFC 6887, section 14.1) and NAT-PMP's announcement of the address (RFC 6886,
/// section 3.2.1).
public struct GatewayAnnouncement: Hashable, Sendable {
    /// Where hosts hear it, sent from the port that the gateway is asked at to 224.0.0.1.
    public static let port: UInt16 = 5350
    /// How long a host waits at most before it asks, by chance, so that the gateway is not asked by all at once.
    public static let longestDelay = Duration.milliseconds(500)

    public let method: PortMappingMethod
    /// Seconds since the gateway lost its state.
    public let epoch: UInt32

    /// - Throws: for what is no announcement.
    public init(_ bytes: RawSpan) throws(DecodingError) {
        var reader = ByteReader(bytes)
        let version = try reader.readByte()
        let opcode = try reader.readByte()
        guard opcode == PCPMessage.responseBit else {
            throw .invalid(field: "announcement of a gateway", reason: "of kind \(opcode)")
        }
        switch version {
        case PCPMessage.version:
            method = .pcp
            epoch = try PCPMessage.epoch(bytes)
        case 0:
            let result: UInt16 = try reader.readBigEndian()
            guard result == 0 else {
                throw .invalid(field: "announcement of a gateway", reason: "with result \(result)")
            }
            method = .natPMP
            epoch = try reader.readBigEndian()
            try reader.skip(4)
        default: throw .invalid(field: "announcement of a gateway", reason: "of version \(version)")
        }
    }
}
