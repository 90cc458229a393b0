/// How a simulated NAT behaves, in the terms of RFC 4787, and the names under which people know the common kinds.
public struct NATSpecification: Hashable, Sendable {
    public enum Dependence: Hashable, Sendable {
        case endpointIndependent, addressDependent, addressAndPortDependent
    }

    public enum Allocation: Hashable, Sendable {
        /// The inside port while it is free.
        case preserving
        case sequential
        case random
    }

    /// Whether addresses are translated at all; a firewall only filters.
    public var translates = true
    public var mapping = Dependence.endpointIndependent
    public var filtering = Dependence.addressAndPortDependent
    public var allocation = Allocation.preserving
    public var blocksUDP = false
    /// Packets that nobody asked for are not dropped but answered by the router itself. Its connection table then holds their
    /// port, and the next packet to that peer gets another.
    public var answersStrangers = false
    /// Whether inside hosts reach each other by their outside addresses.
    public var hairpins = false

    public init() {}

    private init(
        _ mapping: Dependence, _ filtering: Dependence, _ allocation: Allocation, translates: Bool = true,
        blocksUDP: Bool = false, answersStrangers: Bool = false
    ) {
        self.mapping = mapping
        self.filtering = filtering
        self.allocation = allocation
        self.translates = translates
        self.blocksUDP = blocksUDP
        self.answersStrangers = answersStrangers
    }

    /// The kinds by name, in the order of how easy they are to get through.
    public static let kinds: [(name: String, specification: NATSpecification)] = [
        ("none", NATSpecification(.endpointIndependent, .endpointIndependent, .preserving, translates: false)),
        ("firewall", NATSpecification(.endpointIndependent, .addressAndPortDependent, .preserving, translates: false)),
        ("full-cone", NATSpecification(.endpointIndependent, .endpointIndependent, .preserving)),
        ("address-restricted", NATSpecification(.endpointIndependent, .addressDependent, .preserving)),
        ("port-restricted", NATSpecification(.endpointIndependent, .addressAndPortDependent, .preserving)),
        (
            "port-restricted-open",
            NATSpecification(.endpointIndependent, .addressAndPortDependent, .preserving, answersStrangers: true)
        ),
        ("port-restricted-random", NATSpecification(.endpointIndependent, .addressAndPortDependent, .random)),
        ("symmetric-seq", NATSpecification(.addressAndPortDependent, .addressAndPortDependent, .sequential)),
        ("symmetric-address", NATSpecification(.addressDependent, .addressAndPortDependent, .random)),
        ("symmetric-fullfilter", NATSpecification(.addressAndPortDependent, .endpointIndependent, .random)),
        ("symmetric", NATSpecification(.addressAndPortDependent, .addressAndPortDependent, .random)),
        (
            "udp-blocked",
            NATSpecification(.endpointIndependent, .addressAndPortDependent, .preserving, blocksUDP: true)
        ),
    ]

    /// The kind with this name; nil when there is none.
    public static func named(_ name: String) -> NATSpecification? { kinds.first { $0.name == name }?.specification }
}
