extension NATKind {
    /// What the NAT in front of a socket does, in a sentence for people.
    public var explanation: String {
        switch mapping {
        case .unknown: "Not known yet: peers in at least two other networks have to say where they see this socket."
        case .none: "No NAT: peers see this machine's own address."
        case .endpointIndependent: "A NAT that shows everybody the same port\(portWords). \(filteringWords)"
        case .addressDependent, .addressAndPortDependent:
            "A symmetric NAT: it shows each peer another port\(portWords), so that nobody knows where to knock beforehand. \(filteringWords)"
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
