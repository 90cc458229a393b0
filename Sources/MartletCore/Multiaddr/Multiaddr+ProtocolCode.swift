extension Multiaddr {
    /// The protocols that an address may name, by their numbers in the multicodec table.
    public enum ProtocolCode: UInt32, CaseIterable, Sendable {
        case ip4 = 4
        case tcp = 6
        case ip6 = 41
        case ip6zone = 42
        case ipcidr = 43
        case dns = 53
        case dns4 = 54
        case dns6 = 55
        case dnsaddr = 56
        case udp = 273
        case webrtcDirect = 280
        case webrtc = 281
        case p2pCircuit = 290
        case unix = 400
        case p2p = 421
        case https = 443
        case tls = 448
        case sni = 449
        case noise = 454
        /// QUIC draft 29: known, so that such addresses can be told apart; never dialed.
        case quic = 460
        case quicV1 = 461
        case webtransport = 465
        case certhash = 466
        case ws = 477
        case wss = 478
        case http = 480
        case httpPath = 481
        case memory = 777

        /// The name in text.
        public var name: String {
            switch self {
            case .ip4: "ip4"
            case .tcp: "tcp"
            case .ip6: "ip6"
            case .ip6zone: "ip6zone"
            case .ipcidr: "ipcidr"
            case .dns: "dns"
            case .dns4: "dns4"
            case .dns6: "dns6"
            case .dnsaddr: "dnsaddr"
            case .udp: "udp"
            case .webrtcDirect: "webrtc-direct"
            case .webrtc: "webrtc"
            case .p2pCircuit: "p2p-circuit"
            case .unix: "unix"
            case .p2p: "p2p"
            case .https: "https"
            case .tls: "tls"
            case .sni: "sni"
            case .noise: "noise"
            case .quic: "quic"
            case .quicV1: "quic-v1"
            case .webtransport: "webtransport"
            case .certhash: "certhash"
            case .ws: "ws"
            case .wss: "wss"
            case .http: "http"
            case .httpPath: "http-path"
            case .memory: "memory"
            }
        }

        /// The protocol of that name. `ipfs` is the old name of `p2p`.
        public init?(name: some StringProtocol) {
            guard let code = Self.byName[String(name)] else { return nil }
            self = code
        }

        private static let byName: [String: ProtocolCode] = {
            var table = Dictionary(uniqueKeysWithValues: allCases.map { ($0.name, $0) })
            table["ipfs"] = .p2p
            return table
        }()

        enum ValueSize {
            case none
            case fixed(Int)
            /// A varint length in front, at most this.
            case prefixed(limit: Int)
        }

        var valueSize: ValueSize {
            switch self {
            case .ip4: .fixed(4)
            case .ip6: .fixed(16)
            case .ipcidr: .fixed(1)
            case .tcp, .udp: .fixed(2)
            case .memory: .fixed(8)
            case .ip6zone: .prefixed(limit: 64)
            // A DNS name has at most 253 characters (RFC 1035, 2.3.4).
            case .dns, .dns4, .dns6, .dnsaddr, .sni: .prefixed(limit: 253)
            case .p2p, .certhash: .prefixed(limit: Multihash.maximumIdentityByteCount + 10)
            // sun_path has 108 bytes; nobody can listen on more.
            case .unix: .prefixed(limit: 108)
            case .httpPath: .prefixed(limit: 512)
            case .webrtcDirect, .webrtc, .p2pCircuit, .https, .tls, .noise, .quic, .quicV1, .webtransport, .ws, .wss,
                .http:
                .none
            }
        }

        /// What the value is, for error messages.
        var valueDescription: String {
            switch self {
            case .ip4: "an IPv4 address"
            case .ip6: "an IPv6 address"
            case .ip6zone: "a zone name"
            case .ipcidr: "a prefix length (0 to 128)"
            case .tcp, .udp: "a port number (0 to 65535)"
            case .dns, .dns4, .dns6, .dnsaddr, .sni: "a domain name"
            case .p2p: "a peer id"
            case .certhash: "a certificate hash"
            case .unix: "a path of at most 107 characters"
            case .httpPath: "a percent-encoded path"
            case .memory: "a number of 64 bits"
            case .webrtcDirect, .webrtc, .p2pCircuit, .https, .tls, .noise, .quic, .quicV1, .webtransport, .ws, .wss,
                .http:
                "nothing"
            }
        }
    }
}
