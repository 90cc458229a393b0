public import MartletCore

/// The two messages of STUN that a node needs to learn how NATs map a UDP socket: Binding request and success response
/// (RFC 8489, section 6), with what RFC 5780 adds to find out whom NATs let in: addresses of other sockets of the server, and
/// requests to be answered from one of these (sections 7.2 and 7.4).
public enum STUNMessage: Hashable, Sendable {
    /// 96 bits that the response repeats, in the order of the wire.
    public typealias TransactionID = [UInt8]

    case request(TransactionID)
    /// To be answered from another port, and from another address too.
    case changeRequest(TransactionID, changesAddress: Bool)
    /// - Parameters:
    ///   - mapped: where the request came from, as the server sees it.
    ///   - other: another socket of the server.
    ///   - alternate: one at another address of the server.
    case response(
        TransactionID, mapped: TransportAddress, other: TransportAddress?, alternate: TransportAddress? = nil)

    public static let transactionByteCount = 12
    /// The longest message that is read.
    static let byteCountLimit = 256
    private static let headerByteCount = 20
    private static let cookie: UInt32 = 0x2112_A442
    private static let requestType: UInt16 = 0x0001
    private static let responseType: UInt16 = 0x0101
    private static let changeRequestAttribute: UInt16 = 0x0003
    private static let xorMappedAddress: UInt16 = 0x0020
    private static let otherAddress: UInt16 = 0x802C

    /// Whether a datagram may be STUN: the first two bits are zero and the magic cookie is there.
    public static func looksLike(_ datagram: some Collection<UInt8>) -> Bool {
        guard datagram.count >= headerByteCount, let first = datagram.first, first & 0xC0 == 0 else { return false }
        return datagram.dropFirst(4).prefix(4).elementsEqual([0x21, 0x12, 0xA4, 0x42])
    }

    // MARK: Writing

    public var bytes: [UInt8] {
        switch self {
        case .request(let id): return Self.header(Self.requestType, 0, id)
        case .changeRequest(let id, let changesAddress):
            let flags: UInt8 = changesAddress ? 0x06 : 0x02
            let attribute = Self.bigEndian(Self.changeRequestAttribute) + [0, 4, 0, 0, 0, flags]
            return Self.header(Self.requestType, attribute.count, id) + attribute
        case .response(let id, let mapped, let other, let alternate):
            var attributes = Self.attribute(Self.xorMappedAddress, mapped, mask: Self.mask(id))
            // The first of them is what RFC 5780 asks for.
            if let alternate { attributes += Self.attribute(Self.otherAddress, alternate, mask: []) }
            if let other { attributes += Self.attribute(Self.otherAddress, other, mask: []) }
            return Self.header(Self.responseType, attributes.count, id) + attributes
        }
    }

    private static func header(_ type: UInt16, _ length: Int, _ id: [UInt8]) -> [UInt8] {
        precondition(id.count == transactionByteCount, "a STUN transaction id of \(id.count) bytes")
        return bigEndian(type) + bigEndian(UInt16(length)) + bigEndian(cookie) + id
    }

    private static func attribute(_ type: UInt16, _ address: TransportAddress, mask: [UInt8]) -> [UInt8] {
        var value: [UInt8] = bigEndian(address.port)
        switch address.ip {
        case .v4(let ip): value += bigEndian(ip.rawValue)
        case .v6(let ip): value += bigEndian(ip.high) + bigEndian(ip.low)
        }
        apply(mask, to: &value)
        return bigEndian(type) + bigEndian(UInt16(value.count + 2)) + [0, address.isIPv4 ? 1 : 2] + value
    }

    /// What the port and the address are combined with: the port with the cookie's first half, the address with the cookie and
    /// the transaction id (RFC 8489, section 14.2).
    private static func mask(_ id: [UInt8]) -> [UInt8] {
        let cookie: [UInt8] = bigEndian(cookie)
        return Array(cookie[0..<2]) + cookie + id
    }

    private static func apply(_ mask: [UInt8], to value: inout [UInt8]) {
        for index in 0..<min(mask.count, value.count) { value[index] ^= mask[index] }
    }

    private static func bigEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }

    // MARK: Reading

    /// - Throws: for what is cut short, too long, of another type, or a response without an address.
    public init(bytes: [UInt8]) throws(DecodingError) {
        guard bytes.count <= Self.byteCountLimit else {
            throw .tooLong(field: "STUN message", length: UInt64(bytes.count), limit: Self.byteCountLimit)
        }
        let span = bytes.span.bytes
        var reader = ByteReader(span)
        let type: UInt16 = try reader.readBigEndian()
        let length: UInt16 = try reader.readBigEndian()
        let cookie: UInt32 = try reader.readBigEndian()
        guard cookie == Self.cookie else { throw .invalid(field: "STUN magic cookie", reason: "is not there") }
        let id = try reader.readBytes(Self.transactionByteCount)
        guard Int(length) == reader.remaining, length % 4 == 0 else {
            throw .invalid(field: "STUN length", reason: "is not that of the message")
        }
        switch type {
        case Self.requestType: self = try Self.readRequest(id, &reader)
        case Self.responseType: self = try Self.readResponse(id, &reader)
        default: throw .invalid(field: "STUN type", reason: "is neither a binding request nor its response")
        }
    }

    private static func readRequest(
        _ id: TransactionID, _ reader: inout ByteReader
    ) throws(DecodingError) -> STUNMessage {
        var flags: UInt8 = 0
        while !reader.isAtEnd {
            let (type, value) = try readAttribute(&reader)
            guard type == changeRequestAttribute else { continue }
            guard value.count == 4 else { throw .invalid(field: "STUN change request", reason: "is not of four bytes") }
            flags = value[3] & 0x06
        }
        // Another address at the same port is not to be had: addresses other than the first are served at ports of their own.
        return flags == 0 ? .request(id) : .changeRequest(id, changesAddress: flags & 0x04 != 0)
    }

    private static func readAttribute(
        _ reader: inout ByteReader
    ) throws(DecodingError) -> (type: UInt16, value: [UInt8]) {
        let type: UInt16 = try reader.readBigEndian()
        let length: UInt16 = try reader.readBigEndian()
        let value = try reader.readBytes(Int(length))
        try reader.skip((4 - Int(length) % 4) % 4)
        return (type, value)
    }

    private static func readResponse(
        _ id: TransactionID, _ reader: inout ByteReader
    ) throws(DecodingError) -> STUNMessage {
        var mapped: TransportAddress?
        var others: [TransportAddress] = []
        while !reader.isAtEnd {
            let (type, value) = try readAttribute(&reader)
            switch type {
            case xorMappedAddress: mapped = try address(value, mask: mask(id))
            case otherAddress where others.count < 2: others.append(try address(value, mask: []))
            // Attributes that may be ignored, and those that only a client with credentials needs.
            default: continue
            }
        }
        guard let mapped else { throw .invalid(field: "STUN response", reason: "has no mapped address") }
        return .response(id, mapped: mapped, other: others.last, alternate: others.count > 1 ? others[0] : nil)
    }

    private static func address(_ value: [UInt8], mask: [UInt8]) throws(DecodingError) -> TransportAddress {
        guard value.count == 8 && value[1] == 1 || value.count == 20 && value[1] == 2 else {
            throw .invalid(field: "STUN address", reason: "is of no known family")
        }
        var plain = Array(value.dropFirst(2))
        apply(mask, to: &plain)
        let port = UInt16(plain[0]) << 8 | UInt16(plain[1])
        func number(_ range: Range<Int>) -> UInt64 { plain[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let ip: IPAddress =
            plain.count == 6
            ? .v4(IPv4Address(rawValue: UInt32(number(2..<6))))
            : .v6(IPv6Address(high: number(2..<10), low: number(10..<18)))
        return TransportAddress(ip, port: port)
    }
}
