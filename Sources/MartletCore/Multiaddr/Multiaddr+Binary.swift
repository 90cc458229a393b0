extension Multiaddr.Component {
    /// Decodes and checks a value. `value` holds the bytes without their length.
    init(_ code: Multiaddr.ProtocolCode, value: RawSpan) throws(DecodingError) {
        switch code {
        case .ip4: self = .ip4(IPv4Address(rawValue: try number(value)))
        case .ip6:
            var reader = ByteReader(value)
            self = .ip6(IPv6Address(high: try reader.readBigEndian(), low: try reader.readBigEndian()))
        case .ip6zone: self = .ip6zone(try name(value, code))
        case .ipcidr:
            let length: UInt8 = try number(value)
            guard length <= 128 else { throw invalidValue(code, "a prefix has at most 128 bits, not \(length)") }
            self = .ipcidr(length)
        case .dns: self = .dns(try name(value, code))
        case .dns4: self = .dns4(try name(value, code))
        case .dns6: self = .dns6(try name(value, code))
        case .dnsaddr: self = .dnsaddr(try name(value, code))
        case .tcp: self = .tcp(try number(value))
        case .udp: self = .udp(try number(value))
        case .quic: self = .quic
        case .quicV1: self = .quicV1
        case .tls: self = .tls
        case .sni: self = .sni(try name(value, code))
        case .noise: self = .noise
        case .ws: self = .ws
        case .wss: self = .wss
        case .http: self = .http
        case .https: self = .https
        case .httpPath: self = .httpPath(try string(value, code))
        case .p2p: self = .p2p(try multihash(value, code))
        case .p2pCircuit: self = .p2pCircuit
        case .unix:
            let path = try string(value, code)
            guard path.utf8.first == UInt8(ascii: "/"), path.utf8.count > 1 else {
                throw invalidValue(code, "the path is not absolute")
            }
            // One byte of sun_path is for the zero at the end.
            guard path.utf8.count < 108, !path.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
                throw invalidValue(code, "the path is too long or has control characters")
            }
            self = .unix(path)
        case .certhash: self = .certhash(try multihash(value, code))
        case .webtransport: self = .webtransport
        case .webrtcDirect: self = .webrtcDirect
        case .webrtc: self = .webrtc
        case .memory: self = .memory(try number(value))
        }
    }

    /// Adds the binary form: code, length where there is one, value.
    func append(to output: inout [UInt8]) {
        Varint.append(UInt64(code.rawValue), to: &output)
        switch self {
        case .ip4(let address): appendBigEndian(address.rawValue)
        case .ip6(let address):
            appendBigEndian(address.high)
            appendBigEndian(address.low)
        case .ip6zone(let text), .dns(let text), .dns4(let text), .dns6(let text), .dnsaddr(let text), .sni(let text),
            .httpPath(let text), .unix(let text):
            appendPrefixed(text.utf8)
        case .ipcidr(let length): output.append(length)
        case .tcp(let port), .udp(let port): appendBigEndian(port)
        case .p2p(let bytes), .certhash(let bytes): appendPrefixed(bytes)
        case .memory(let number): appendBigEndian(number)
        case .quic, .quicV1, .tls, .noise, .ws, .wss, .http, .https, .p2pCircuit, .webtransport, .webrtcDirect,
            .webrtc:
            break
        }

        func appendBigEndian(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.bigEndian) { output.append(contentsOf: $0) }
        }
        func appendPrefixed(_ bytes: some Collection<UInt8>) {
            Varint.append(UInt64(bytes.count), to: &output)
            output.append(contentsOf: bytes)
        }
    }
}

/// One part of an address inside its bytes.
struct RawComponent {
    let code: Multiaddr.ProtocolCode
    /// The value without its length, counted from the start of the address.
    let value: Range<Int>
    /// Where the part begins, its code included.
    let start: Int
}

extension RawComponent {
    /// The next part of a message. Its size is checked against the protocol's limit, its content is not looked at.
    init(reading reader: inout ByteReader) throws(DecodingError) {
        start = reader.position
        let number = try reader.readVarint()
        guard let code = UInt32(exactly: number).flatMap(Multiaddr.ProtocolCode.init(rawValue:)) else {
            throw .invalid(field: "multiaddr", reason: "protocol \(number) is not known here")
        }
        self.code = code
        let size: Int
        switch code.valueSize {
        case .none: size = 0
        case .fixed(let count): size = count
        case .prefixed(let limit):
            let length = try reader.readVarint()
            guard length <= UInt64(limit) else {
                throw .tooLong(field: "multiaddr \(code.name)", length: length, limit: limit)
            }
            size = Int(length)
        }
        value = reader.position..<reader.position + size
        try reader.skip(size)
    }
}

private func invalidValue(_ code: Multiaddr.ProtocolCode, _ reason: String) -> DecodingError {
    .invalid(field: "multiaddr \(code.name)", reason: reason)
}

private func number<T: FixedWidthInteger & BitwiseCopyable>(_ value: RawSpan) throws(DecodingError) -> T {
    var reader = ByteReader(value)
    return try reader.readBigEndian()
}

private func string(_ value: RawSpan, _ code: Multiaddr.ProtocolCode) throws(DecodingError) -> String {
    guard let text = value.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }), !text.isEmpty else {
        throw invalidValue(code, "empty or not UTF-8")
    }
    return text
}

/// A name of a host or an interface: nothing in it may be mistaken for syntax of the address or of a log.
private func name(_ value: RawSpan, _ code: Multiaddr.ProtocolCode) throws(DecodingError) -> String {
    let text = try string(value, code)
    guard !text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "/") }) else {
        throw invalidValue(code, "a name has no slashes, spaces or control characters")
    }
    return text
}

private func multihash(_ value: RawSpan, _ code: Multiaddr.ProtocolCode) throws(DecodingError) -> [UInt8] {
    let hash: Multihash
    do throws(DecodingError) { hash = try Multihash(bytes: value) } catch {
        throw invalidValue(code, error.description)
    }
    // libp2p/specs, peer-ids: a key of up to 42 bytes as it is, else its SHA-256. Nothing else has a text form.
    let isPeerID =
        hash.code == .identity && hash.digestByteCount <= 42 || hash.code == .sha2_256 && hash.digestByteCount == 32
    guard code != .p2p || isPeerID else { throw invalidValue(code, "a multihash that no peer has") }
    return value.withUnsafeBytes { Array($0) }
}
