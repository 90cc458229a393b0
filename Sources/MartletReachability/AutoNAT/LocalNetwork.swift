public import MartletCore

/// What this machine is connected to, as far as others see it.
public struct LocalNetwork: Hashable, Sendable {
    /// All addresses of this machine.
    public let addresses: Set<IPAddress>
    /// The one that packets to the internet leave from: which of several it is may change by a route alone. Nil without a way there.
    public let source: IPAddress?

    public init(addresses: Set<IPAddress>, source: IPAddress?) {
        self.addresses = addresses
        self.source = source
    }

    /// Whether what was found out in the earlier network says nothing of this one.
    ///
    /// Bridges and tunnels of containers and virtual machines come and go beside the way to the internet, with addresses of
    /// private networks or a link: on some machines every few seconds.
    public func isAnother(than earlier: LocalNetwork) -> Bool {
        source != earlier.source || visible != earlier.visible
    }

    /// The addresses that others can see, or, where there is no way to the internet, that others can have anything to do with.
    private var visible: Set<IPAddress> {
        addresses.filter { address in
            switch address.scope {
            case .global: true
            case .privateNetwork, .carrierNAT: source == nil
            case .unspecified, .loopback, .linkLocal, .multicast, .reserved: false
            }
        }
    }
}
