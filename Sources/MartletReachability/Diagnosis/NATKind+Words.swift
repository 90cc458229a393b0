extension NATKind {
    /// What the NAT or firewall in front of a socket does, in a sentence or two for people.
    public var explanation: String {
        switch mapping {
        case .unknown: "Not known yet: peers in at least two other networks have to say where they see this socket."
        case .none: noNATWords
        case .endpointIndependent: "A NAT that shows everybody the same port\(portWords). \(filteringWords)"
        case .addressDependent, .addressAndPortDependent:
            "A symmetric NAT: it shows each peer another port\(portWords), so that nobody knows where to knock beforehand. \(filteringWords)"
        }
    }

    /// The same in the terms of RFC 4787; nil while nothing is known.
    public var terms: String? {
        guard mapping != .unknown || filtering != .unknown else { return nil }
        let words = [
            mapping == .none ? "no translation" : "\(mapping.words) mapping", "\(filtering.words) filtering",
            mapping == .none ? nil : allocation.words,
        ]
        return words.compactMap(\.self).joined(separator: ", ")
    }

    private var noNATWords: String {
        switch filtering {
        case .unknown:
            "No NAT: peers see this machine's own address. Whether a firewall keeps strangers out is not known."
        case .endpointIndependent: "No NAT, and no firewall that keeps strangers out."
        case .addressDependent: "No NAT, but a firewall that lets in only hosts that this node has sent something to."
        case .addressAndPortDependent:
            "No NAT, but a firewall that lets in only those whom this node has sent something to, host and port."
        case .dependent: "No NAT, but a firewall that does not let strangers in."
        }
    }

    private var portWords: String {
        switch allocation {
        case .unknown: ""
        case .preserving: ", the one that this node uses"
        case .sequential(let step): " (they count by \(step), and can be guessed)"
        case .random: mapping.isDependent ? " (chosen at random)" : ", but not the one that this node uses"
        }
    }

    private var filteringWords: String {
        switch filtering {
        case .unknown: "Whether it lets strangers in is not known yet."
        case .endpointIndependent: "It lets strangers in: no hole has to be punched."
        case .addressDependent: "It lets in only hosts that this node has sent something to."
        case .addressAndPortDependent: "It lets in only those whom this node has sent something to, host and port."
        case .dependent: "It does not let strangers in."
        }
    }
}

extension NATMapping {
    fileprivate var words: String {
        switch self {
        case .unknown: "unknown"
        case .none: "no"
        case .endpointIndependent: "endpoint-independent"
        case .addressDependent: "address-dependent"
        case .addressAndPortDependent: "address-and-port-dependent"
        }
    }
}

extension NATFiltering {
    fileprivate var words: String {
        switch self {
        case .unknown: "unknown"
        case .endpointIndependent: "endpoint-independent"
        case .addressDependent: "address-dependent"
        case .addressAndPortDependent: "address-and-port-dependent"
        case .dependent: "address-dependent or address-and-port-dependent"
        }
    }
}

extension PortAllocation {
    fileprivate var words: String? {
        switch self {
        case .unknown: nil
        case .preserving: "ports preserved"
        case .sequential(let step): "ports sequential in steps of \(step)"
        case .random: "ports at random"
        }
    }
}
