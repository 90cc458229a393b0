extension Multiaddr {
    /// One part of an address: a protocol and its value.
    public enum Component: Hashable, Sendable {
        case ip4(IPv4Address)
        case ip6(IPv6Address)
        /// The interface of the ip6 part that follows.
        case ip6zone(String)
        /// Makes the ip part before it a network: the length of the prefix in bits.
        case ipcidr(UInt8)
        /// A name with addresses of either version.
        case dns(String)
        case dns4(String)
        case dns6(String)
        /// A name whose TXT records hold multiaddrs.
        case dnsaddr(String)
        case tcp(UInt16)
        case udp(UInt16)
        case quic
        case quicV1
        case tls
        case sni(String)
        case noise
        case ws
        case wss
        case http
        case https
        case httpPath(String)
        /// A peer id: the bytes of its multihash.
        case p2p([UInt8])
        /// What comes before is a relay, what follows is reached through it.
        case p2pCircuit
        /// The absolute path of a socket; always the last part.
        case unix(String)
        /// The hash of a certificate: the bytes of a multihash.
        case certhash([UInt8])
        case webtransport
        case webrtcDirect
        case webrtc
        case memory(UInt64)

        /// The protocol without its value.
        public var code: ProtocolCode {
            switch self {
            case .ip4: .ip4
            case .ip6: .ip6
            case .ip6zone: .ip6zone
            case .ipcidr: .ipcidr
            case .dns: .dns
            case .dns4: .dns4
            case .dns6: .dns6
            case .dnsaddr: .dnsaddr
            case .tcp: .tcp
            case .udp: .udp
            case .quic: .quic
            case .quicV1: .quicV1
            case .tls: .tls
            case .sni: .sni
            case .noise: .noise
            case .ws: .ws
            case .wss: .wss
            case .http: .http
            case .https: .https
            case .httpPath: .httpPath
            case .p2p: .p2p
            case .p2pCircuit: .p2pCircuit
            case .unix: .unix
            case .certhash: .certhash
            case .webtransport: .webtransport
            case .webrtcDirect: .webrtcDirect
            case .webrtc: .webrtc
            case .memory: .memory
            }
        }

        /// The value's text; nil for protocols without one.
        public var valueText: String? {
            switch self {
            case .ip4(let address): address.description
            case .ip6(let address): address.description
            case .ip6zone(let text), .dns(let text), .dns4(let text), .dns6(let text), .dnsaddr(let text),
                .sni(let text):
                text
            case .ipcidr(let length): "\(length)"
            case .tcp(let port), .udp(let port): "\(port)"
            case .httpPath(let path): percentEncoded(path)
            case .p2p(let bytes): Base58.encode(bytes)
            case .unix(let path): String(path.dropFirst(path.utf8.first == UInt8(ascii: "/") ? 1 : 0))
            case .certhash(let bytes): Multibase.base64URL.encode(bytes)
            case .memory(let number): "\(number)"
            case .quic, .quicV1, .tls, .noise, .ws, .wss, .http, .https, .p2pCircuit, .webtransport, .webrtcDirect,
                .webrtc:
                nil
            }
        }
    }
}

extension Multiaddr.Component: CustomStringConvertible {
    /// The part as it stands in an address: `/tcp/4001`.
    public var description: String {
        valueText.map { "/\(code.name)/\($0)" } ?? "/\(code.name)"
    }
}

/// Keeps what RFC 3986 allows in a path segment, escapes the rest.
private func percentEncoded(_ text: String) -> String {
    let kept = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@".utf8)
    let digits = Array("0123456789ABCDEF".utf8)
    var output: [UInt8] = []
    for byte in text.utf8 {
        if kept.contains(byte) {
            output.append(byte)
        } else {
            output += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
    return String(decoding: output, as: UTF8.self)
}
