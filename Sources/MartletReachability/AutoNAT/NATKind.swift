/// How a NAT treats one socket of this node, in the terms of RFC 4787, as far as it is known.
public struct NATKind: Hashable, Sendable {
    public var mapping = NATMapping.unknown
    public var filtering = NATFiltering.unknown
    public var allocation = PortAllocation.unknown

    public init(
        mapping: NATMapping = .unknown, filtering: NATFiltering = .unknown, allocation: PortAllocation = .unknown
    ) {
        self.mapping = mapping
        self.filtering = filtering
        self.allocation = allocation
    }
}

/// Whether the same external address and port serve all destinations of a socket (RFC 4787, section 4.1).
public enum NATMapping: String, Hashable, Sendable, CaseIterable {
    /// Too few peers said what they see.
    case unknown
    /// Peers see the socket's own address.
    case none
    /// One external address and port for all destinations: what one peer sees, others can reach.
    case endpointIndependent
    /// Another one for each destination address.
    case addressDependent
    /// Another one for each destination address and port. Also said when destinations at different addresses see different
    /// ports and it is not known what two ports of one address see.
    case addressAndPortDependent

    /// Whether different destinations see different ports: a "symmetric" NAT.
    public var isDependent: Bool { self == .addressDependent || self == .addressAndPortDependent }
}

/// Whose packets a NAT lets in through a mapping (RFC 4787, section 5).
public enum NATFiltering: String, Hashable, Sendable, CaseIterable {
    case unknown
    /// Anybody's.
    case endpointIndependent
    /// Those of addresses that the socket sent to, from any of their ports.
    case addressDependent
    /// Those of addresses and ports that the socket sent to.
    case addressAndPortDependent
    /// Not anybody's; which of the two above is not known.
    case dependent

    /// Whether packets of those that the socket never sent anything to are dropped.
    public var keepsStrangersOut: Bool {
        switch self {
        case .unknown, .endpointIndependent: false
        case .addressDependent, .addressAndPortDependent, .dependent: true
        }
    }
}

/// How a NAT chooses external ports.
public enum PortAllocation: Hashable, Sendable {
    case unknown
    /// The port of the socket itself, while it is free.
    case preserving
    /// Each new mapping's port is `step` above the last one's.
    case sequential(step: Int)
    /// No rule that could be predicted from.
    case random
}

extension PortAllocation {
    /// New mappings whose ports follow each other this closely are no chance.
    private static let largestStep = 16

    /// - Parameter ports: those that were given to new mappings, in their order.
    init(successive ports: [UInt16]) {
        var distinct: [Int] = []
        for port in ports where !distinct.contains(Int(port)) { distinct.append(Int(port)) }
        let steps = zip(distinct.dropFirst(), distinct).map { $0 - $1 }
        // Others behind the same NAT take ports in between, so steps are multiples of the smallest.
        guard let smallest = steps.min(by: { abs($0) < abs($1) }),
            steps.allSatisfy({ $0.signum() == smallest.signum() && abs($0) <= Self.largestStep })
        else {
            self = distinct.isEmpty ? .unknown : .random
            return
        }
        self = .sequential(step: smallest)
    }
}

extension PortAllocation: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unknown: "unknown"
        case .preserving: "preserving"
        case .sequential(let step): "sequential, step \(step)"
        case .random: "random"
        }
    }
}
