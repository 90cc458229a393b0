extension Multiaddr {
    /// The longest text that is looked at.
    public static let maximumTextByteCount = 4096

    /// Reads the text form: `/ip4/192.0.2.1/tcp/4001`.
    ///
    /// - Throws: `MultiaddrError`, whose description names the part that is wrong.
    public init(_ text: some StringProtocol) throws(MultiaddrError) {
        guard text.utf8.count <= Self.maximumTextByteCount else {
            throw MultiaddrError(
                .tooLong, in: String(text.prefix(200)),
                "it has \(text.utf8.count) characters, the limit is \(Self.maximumTextByteCount)")
        }
        var parser = MultiaddrParser(text: String(text))
        try self.init(checked: parser.parse())
    }
}

extension Multiaddr: CustomStringConvertible {
    /// The text form. Peer ids are written in base58, certificate hashes in base64url.
    public var description: String { components.reduce(into: "") { $0 += $1.description } }
}

private struct MultiaddrParser {
    let text: String
    private var parts: ArraySlice<ArraySlice<UInt8>> = []

    init(text: String) { self.text = text }

    private func fail(_ code: MultiaddrError.Code, _ message: String) -> MultiaddrError {
        MultiaddrError(code, in: text, message)
    }

    mutating func parse() throws(MultiaddrError) -> [UInt8] {
        let slash = UInt8(ascii: "/")
        let characters = Array(text.utf8)
        guard !characters.isEmpty else { throw fail(.empty, "it is empty") }
        guard characters[0] == slash else {
            throw fail(.missingSlash, "it does not begin with \"/\", as /ip4/192.0.2.1/tcp/4001 does")
        }
        guard characters.count > 1 else { throw fail(.empty, "it has no parts") }
        parts = characters[1...].split(separator: slash, omittingEmptySubsequences: false)[...]

        var bytes: [UInt8] = []
        var count = 0
        while let part = parts.popFirst() {
            // A slash at the very end means nothing.
            if part.isEmpty, parts.isEmpty, count > 0 { break }
            count += 1
            guard count <= Multiaddr.maximumComponentCount else {
                throw fail(.tooLong, "it has more than \(Multiaddr.maximumComponentCount) parts")
            }
            try component(named: part).append(to: &bytes)
            guard bytes.count <= Multiaddr.maximumByteCount else {
                throw fail(.tooLong, "it has more than \(Multiaddr.maximumByteCount) bytes")
            }
        }
        return bytes
    }

    private mutating func component(named part: ArraySlice<UInt8>) throws(MultiaddrError) -> Multiaddr.Component {
        let name = String(decoding: part, as: UTF8.self)
        guard let code = Multiaddr.ProtocolCode(name: name) else {
            throw fail(
                .unknownProtocol,
                name.isEmpty
                    ? "it has an empty part (two slashes in a row)"
                    : "\"\(printable(name, limit: 64))\" is not a protocol known here")
        }
        if case .none = code.valueSize {
            guard let component = Multiaddr.Component(code, text: []) else {
                throw fail(.invalidValue, "\(name) takes no value")
            }
            return component
        }
        let value: ArraySlice<UInt8>
        if code == .unix {
            // A path takes all that is left, with its slashes.
            value = ArraySlice(parts.joined(separator: [UInt8(ascii: "/")]))
            parts = []
        } else {
            value = parts.popFirst() ?? []
        }
        guard !value.isEmpty else {
            throw fail(.missingValue, "\(name) needs \(code.valueDescription) after it")
        }
        guard let component = Multiaddr.Component(code, text: value) else {
            let shown = printable(String(decoding: value, as: UTF8.self), limit: 128)
            throw fail(.invalidValue, "\(name) \"\(shown)\" is not \(code.valueDescription)")
        }
        if let reason = component.refusal { throw fail(.invalidValue, reason) }
        return component
    }
}

extension Multiaddr.Component {
    /// Reads a value's text; nil when it has not the form that the protocol asks for.
    fileprivate init?(_ code: Multiaddr.ProtocolCode, text: ArraySlice<UInt8>) {
        switch code {
        case .ip4:
            guard let address = IPv4Address(utf8: text) else { return nil }
            self = .ip4(address)
        case .ip6:
            guard let address = IPv6Address(utf8: text) else { return nil }
            self = .ip6(address)
        case .tcp:
            guard let port = decimalNumber(text, limit: 65535) else { return nil }
            self = .tcp(UInt16(port))
        case .udp:
            guard let port = decimalNumber(text, limit: 65535) else { return nil }
            self = .udp(UInt16(port))
        case .ipcidr:
            guard let length = decimalNumber(text, limit: 128) else { return nil }
            self = .ipcidr(UInt8(length))
        case .memory:
            guard let number = decimalNumber(text, limit: .max) else { return nil }
            self = .memory(number)
        case .p2p:
            guard let bytes = peerIDBytes(text) else { return nil }
            self = .p2p(bytes)
        case .certhash:
            guard let bytes = try? Multibase.decode(utf8: text, limit: 512).bytes else { return nil }
            self = .certhash(bytes)
        case .httpPath:
            guard let path = percentDecoded(text) else { return nil }
            self = .httpPath(path)
        case .unix: self = .unix("/" + String(decoding: text, as: UTF8.self))
        case .ip6zone: self = .ip6zone(String(decoding: text, as: UTF8.self))
        case .dns: self = .dns(String(decoding: text, as: UTF8.self))
        case .dns4: self = .dns4(String(decoding: text, as: UTF8.self))
        case .dns6: self = .dns6(String(decoding: text, as: UTF8.self))
        case .dnsaddr: self = .dnsaddr(String(decoding: text, as: UTF8.self))
        case .sni: self = .sni(String(decoding: text, as: UTF8.self))
        case .quic: self = .quic
        case .quicV1: self = .quicV1
        case .tls: self = .tls
        case .noise: self = .noise
        case .ws: self = .ws
        case .wss: self = .wss
        case .http: self = .http
        case .https: self = .https
        case .p2pCircuit: self = .p2pCircuit
        case .webtransport: self = .webtransport
        case .webrtcDirect: self = .webrtcDirect
        case .webrtc: self = .webrtc
        }
    }

    /// What keeps this component out of an address, by the same rules that hold for bytes from the network.
    var refusal: String? {
        var bytes: [UInt8] = []
        append(to: &bytes)
        let span = bytes.span.bytes
        var reader = ByteReader(span)
        do throws(DecodingError) {
            let part = try RawComponent(reading: &reader)
            _ = try Multiaddr.Component(part.code, value: span.extracting(part.value))
            return nil
        } catch {
            let shown = valueText.map { " \"\(printable($0, limit: 128))\"" } ?? ""
            let reason =
                switch error {
                case .invalid(_, let reason): reason
                case .tooLong(_, let length, let limit): "\(length) bytes, the limit is \(limit)"
                default: error.description
                }
            return "\(code.name)\(shown) is not \(code.valueDescription): \(reason)"
        }
    }
}

/// A peer id in either of its texts: base58 of the multihash, or a CID of a key. libp2p/specs, peer-ids.
private func peerIDBytes(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    if text.starts(with: "Qm".utf8) || text.starts(with: "1".utf8) { return try? LargeRadix.base58.decode(text) }
    guard let cid = try? CID(utf8: text), cid.version == .v1, cid.codec == .libp2pKey else { return nil }
    return cid.multihash.bytes
}

private func percentDecoded(_ text: ArraySlice<UInt8>) -> String? {
    var bytes: [UInt8] = []
    var rest = text
    while let character = rest.popFirst() {
        guard character == UInt8(ascii: "%") else {
            bytes.append(character)
            continue
        }
        guard let high = rest.popFirst().flatMap(hexadecimalDigit), let low = rest.popFirst().flatMap(hexadecimalDigit)
        else { return nil }
        bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
}
