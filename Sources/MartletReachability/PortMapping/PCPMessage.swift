public import MartletCore

/// The MAP and ANNOUNCE messages of the Port Control Protocol (RFC 6887, sections 7, 11 and 14).
public enum PCPMessage {
    public static let port: UInt16 = 5351
    static let version: UInt8 = 2
    static let announceOpcode: UInt8 = 0
    static let mapOpcode: UInt8 = 1
    static let responseBit: UInt8 = 0x80
    /// Bytes of a MAP request and response without options.
    static let mapSize = 60
    /// Bytes that a message has at most.
    public static let sizeLimit = 1100
    static let nonceSize = 12

    /// A question that changes nothing: whether the gateway speaks PCP, and since when it has its state (section 14.1).
    public static func announce(client: IPAddress) -> [UInt8] {
        var bytes: [UInt8] = [version, announceOpcode, 0, 0, 0, 0, 0, 0]
        bytes.append(wireAddress(of: client))
        return bytes
    }

    /// What a gateway says of itself in any response of PCP.
    ///
    /// - Throws: also for a gateway that speaks NAT-PMP only, which answers in that version.
    static func epoch(_ bytes: RawSpan) throws(DecodingError) -> UInt32 {
        guard bytes.byteCount <= sizeLimit else {
            throw .tooLong(field: "PCP response", length: UInt64(bytes.byteCount), limit: sizeLimit)
        }
        var reader = ByteReader(bytes)
        guard try reader.readByte() == version else { throw otherVersion }
        guard try reader.readByte() & responseBit != 0 else {
            throw .invalid(field: "PCP response", reason: "a request")
        }
        try reader.skip(6)
        let epoch: UInt32 = try reader.readBigEndian()
        try reader.skip(12)
        return epoch
    }

    private static var otherVersion: DecodingError {
        .invalid(field: "PCP response", reason: "the gateway does not speak PCP version 2")
    }

    /// IPv4 addresses are written as mapped ones (section 5).
    private static func wireAddress(of ip: IPAddress) -> IPv6Address {
        switch ip {
        case .v4(let ip): IPv6Address(mapping: ip)
        case .v6(let ip): ip
        }
    }

    /// A request to map a port for `client`, the address that the packet leaves from. In front of an IPv6 address there is a firewall
    /// that is to let packets in to that very address, which is asked for as the one outside.
    public static func request(_ request: PortMappingRequest, nonce: [UInt8], client: IPAddress) -> [UInt8] {
        precondition(nonce.count == nonceSize, "a PCP nonce of \(nonce.count) bytes")
        var bytes: [UInt8] = [version, mapOpcode, 0, 0]
        bytes.append(bigEndian: request.lifetime)
        bytes.append(wireAddress(of: client))
        bytes += nonce
        bytes += [request.target.isTCP ? 6 : 17, 0, 0, 0]
        bytes.append(bigEndian: request.target.port)
        bytes.append(bigEndian: request.lifetime == 0 ? 0 : request.externalPort)
        switch client {
        // No address outside is preferred.
        case .v4: bytes.append(IPv6Address(mapping: .any))
        case .v6(let ip): bytes.append(ip)
        }
        return bytes
    }

    /// What a gateway answered.
    public struct Response: Hashable, Sendable {
        public let result: UInt8
        public let lifetime: UInt32
        /// Seconds since the gateway lost its state.
        public let epoch: UInt32
        public let nonce: [UInt8]
        public let target: PortMappingTarget
        public let externalPort: UInt16
        public let externalAddress: IPAddress
    }

    /// Reads a response to a MAP request.
    ///
    /// - Throws: also for a gateway that speaks NAT-PMP only, which answers in that version.
    public static func response(_ bytes: RawSpan) throws(DecodingError) -> Response {
        guard bytes.byteCount <= sizeLimit else {
            throw .tooLong(field: "PCP response", length: UInt64(bytes.byteCount), limit: sizeLimit)
        }
        var reader = ByteReader(bytes)
        guard try reader.readByte() == version else { throw otherVersion }
        guard try reader.readByte() == mapOpcode | responseBit else {
            throw .invalid(field: "PCP response", reason: "not an answer to a mapping")
        }
        try reader.skip(1)
        let result = try reader.readByte()
        let lifetime: UInt32 = try reader.readBigEndian()
        let epoch: UInt32 = try reader.readBigEndian()
        try reader.skip(12)
        let nonce = try reader.readBytes(nonceSize)
        let transport = try reader.readByte()
        guard transport == 6 || transport == 17 else {
            throw .invalid(field: "PCP response", reason: "of protocol \(transport)")
        }
        try reader.skip(3)
        let internalPort: UInt16 = try reader.readBigEndian()
        let externalPort: UInt16 = try reader.readBigEndian()
        let high: UInt64 = try reader.readBigEndian()
        let low: UInt64 = try reader.readBigEndian()
        return Response(
            result: result, lifetime: lifetime, epoch: epoch, nonce: nonce,
            target: PortMappingTarget(isTCP: transport == 6, port: internalPort), externalPort: externalPort,
            externalAddress: IPAddress.v6(IPv6Address(high: high, low: low)).unmapped)
    }

    /// What a result code means to a person (section 7.4).
    static func reason(_ result: UInt8) -> String {
        switch result {
        case 1: "the gateway does not speak PCP version 2"
        case 2: "the gateway refuses to forward ports by PCP"
        case 4: "the gateway does not forward ports by PCP"
        case 7: "the gateway has no connection to the internet"
        case 8: "the gateway has no more ports to forward"
        case 10: "the gateway forwards no more ports for this machine"
        case 11: "the gateway cannot give that port or address"
        case 12: "another NAT lies between this machine and the gateway"
        default: "the gateway refuses by PCP with code \(result)"
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func append(_ address: IPv6Address) {
        append(bigEndian: address.high)
        append(bigEndian: address.low)
    }
}
