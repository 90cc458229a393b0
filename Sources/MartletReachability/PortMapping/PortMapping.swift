public import MartletCore

/// How a gateway is asked to forward a port.
public enum PortMappingMethod: String, Hashable, Sendable, CaseIterable {
    /// Port Control Protocol (RFC 6887).
    case pcp
    /// NAT Port Mapping Protocol (RFC 6886).
    case natPMP = "nat-pmp"
    /// The Internet Gateway Device of UPnP.
    case upnp
}

/// A port of this machine that is to be reached from outside.
public struct PortMappingTarget: Hashable, Sendable {
    public let isTCP: Bool
    public let port: UInt16

    public init(isTCP: Bool, port: UInt16) {
        self.isTCP = isTCP
        self.port = port
    }
}

/// One thing to ask of a gateway.
public struct PortMappingRequest: Hashable, Sendable {
    public let target: PortMappingTarget
    /// The port wished for outside.
    public let externalPort: UInt16
    /// In seconds; 0 removes the mapping.
    public let lifetime: UInt32

    public init(target: PortMappingTarget, externalPort: UInt16, lifetime: UInt32) {
        self.target = target
        self.externalPort = externalPort
        self.lifetime = lifetime
    }
}

/// What a gateway answered to one request.
public enum PortMappingAnswer: Hashable, Sendable {
    /// Lifetime in seconds; nil lasts until the gateway restarts.
    case mapped(externalPort: UInt16, lifetime: UInt32?)
    case failed(String)
}

/// A port that a gateway forwards.
public struct PortMapping: Hashable, Sendable {
    public let target: PortMappingTarget
    public let method: PortMappingMethod
    /// The gateway's address outside; nil when it did not say.
    public let externalAddress: IPAddress?
    public let externalPort: UInt16
    /// Nil lasts until the gateway restarts.
    public let expiresAt: Instant?

    public init(
        target: PortMappingTarget, method: PortMappingMethod, externalAddress: IPAddress?, externalPort: UInt16,
        expiresAt: Instant?
    ) {
        self.target = target
        self.method = method
        self.externalAddress = externalAddress
        self.externalPort = externalPort
        self.expiresAt = expiresAt
    }
}
