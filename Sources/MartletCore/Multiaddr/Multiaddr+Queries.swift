extension Multiaddr {
    /// The protocols in order, without values.
    public var protocolCodes: [ProtocolCode] { rawComponents.map(\.code) }

    /// Whether the address names `code` anywhere.
    public func contains(_ code: ProtocolCode) -> Bool { rawComponents.contains { $0.code == code } }

    /// Whether the address goes through a relay.
    public var isCircuit: Bool { contains(.p2pCircuit) }

    /// The first component with that protocol.
    public func first(_ code: ProtocolCode) -> Component? {
        rawComponents.first { $0.code == code }.flatMap { bytes.component($0) }
    }

    /// The last component.
    public var last: Component? {
        var last: RawComponent?
        for part in rawComponents { last = part }
        return last.flatMap { bytes.component($0) }
    }

    /// The first IP address. In a circuit that is the relay's.
    public var ipAddress: IPAddress? {
        guard let part = rawComponents.first(where: { $0.code == .ip4 || $0.code == .ip6 }) else { return nil }
        switch bytes.component(part) {
        case .ip4(let address): return .v4(address)
        case .ip6(let address): return .v6(address)
        default: return nil
        }
    }

    /// The first TCP or UDP port. In a circuit that is the relay's.
    public var port: UInt16? {
        guard let part = rawComponents.first(where: { $0.code == .tcp || $0.code == .udp }) else { return nil }
        switch bytes.component(part) {
        case .tcp(let port), .udp(let port): return port
        default: return nil
        }
    }

    /// The first domain name that has to be looked up (`dns`, `dns4`, `dns6`, `dnsaddr`).
    public var domainName: String? {
        let part = rawComponents.first { [.dns, .dns4, .dns6, .dnsaddr].contains($0.code) }
        switch part.flatMap({ bytes.component($0) }) {
        case .dns(let name), .dns4(let name), .dns6(let name), .dnsaddr(let name): return name
        default: return nil
        }
    }

    /// The multihash bytes of the peer that the whole address leads to: the last `p2p`, if nothing but it ends the
    /// address.
    public var lastPeerIDBytes: [UInt8]? {
        if case .p2p(let bytes) = last { bytes } else { nil }
    }

    /// How an address is dialed.
    public enum TransportKind: Hashable, Sendable {
        case tcp, quicV1, quicDraft29, webSocket, secureWebSocket, webTransport, webRTC, webRTCDirect, http, udp, unix
        case memory
        /// Through a relay, which has a transport of its own.
        case circuit
    }

    /// How the address is dialed; nil when it names no transport (a bare IP address, a `dnsaddr` to look up first).
    public var transportKind: TransportKind? {
        var kind: TransportKind?
        var isSecured = false
        for part in rawComponents {
            switch part.code {
            case .p2pCircuit: return .circuit
            case .tcp: kind = .tcp
            case .udp: kind = .udp
            case .unix: kind = .unix
            case .memory: kind = .memory
            case .quic: kind = .quicDraft29
            case .quicV1: kind = .quicV1
            case .webtransport: kind = .webTransport
            case .webrtc: kind = .webRTC
            case .webrtcDirect: kind = .webRTCDirect
            case .tls: isSecured = true
            case .ws: kind = isSecured ? .secureWebSocket : .webSocket
            case .wss: kind = .secureWebSocket
            case .http, .https: kind = .http
            case .ip4, .ip6, .ip6zone, .ipcidr, .dns, .dns4, .dns6, .dnsaddr, .sni, .noise, .httpPath, .p2p, .certhash:
                break
            }
        }
        return kind
    }
}

extension Multiaddr {
    /// How far the address reaches, judged by what it begins with (a zone left out); nil when that is neither an IP
    /// address nor a name.
    public var scope: AddressScope? {
        for part in rawComponents where part.code != .ip6zone {
            switch bytes.component(part) {
            case .ip4(let address): return address.scope
            case .ip6(let address): return address.scope
            case .dns(let name), .dns4(let name), .dns6(let name), .dnsaddr(let name): return nameScope(name)
            case .unix, .memory: return .loopback
            default: return nil
            }
        }
        return nil
    }

    public var isLoopback: Bool { scope == .loopback }
    public var isLinkLocal: Bool { scope == .linkLocal }
    /// In a private network or behind a carrier's NAT.
    public var isPrivate: Bool { scope == .privateNetwork || scope == .carrierNAT }
    /// Reachable from the whole internet, as far as the address tells.
    public var isPublic: Bool { scope == .global }
}

/// Names that never leave this machine or this network (RFC 6761, 6762, 8375 and the ICANN decision on `.internal`).
private func nameScope(_ name: String) -> AddressScope {
    let labels = name.lowercased().split(separator: ".")
    switch labels.last {
    case "localhost": return .loopback
    case "local": return .linkLocal
    case "internal", "test": return .privateNetwork
    case "invalid", "example", "onion": return .reserved
    default: return labels.suffix(2) == ["home", "arpa"] ? .privateNetwork : .global
    }
}
