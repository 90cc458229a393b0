import Logging
import MartletCore
import MartletReachability
import MartletRuntime

/// Ports that the gateway forwards, and pinholes.
extension ReachabilityDriver {
    /// Asks the gateway to forward the ports that this node listens at, when it is behind one, and to let in what comes by IPv6.
    func mapPorts() {
        let isBehindGateway = !node.engine.observed.localAddresses.contains {
            if case .v4 = $0 { $0.scope == .global } else { false }
        }
        guard mapsPorts, isBehindGateway else {
            pinholes.update([])
            return mapper.update([])
        }
        mapper.update(targets { $0.isIP4 && $0.scope != .global })
        pinholes.update(
            Gateway.globalIPv6Addresses().map { own in
                (own, targets { !$0.isIP4 && ($0.scope == .unspecified || $0 == .v6(own)) })
            })
    }

    /// The ports at which this node listens beyond this machine, at such addresses.
    private func targets(where isWanted: (IPAddress) -> Bool) -> [PortMappingTarget] {
        node.boundListeners.compactMap { listener in
            guard let ip = listener.ipAddress, let port = listener.port, isWanted(ip) else { return nil }
            switch ip.scope {
            case .unspecified, .privateNetwork, .carrierNAT, .global:
                return PortMappingTarget(isTCP: listener.transportKind == .tcp, port: port)
            case .loopback, .linkLocal, .multicast, .reserved: return nil
            }
        }
    }

    func mappingsChanged() {
        let mappings = mapper.mappings + pinholes.mappings
        for mapping in mappings {
            node.logger.info(
                "the gateway forwards a port",
                metadata: [
                    "protocol": "\(mapping.target.isTCP ? "tcp" : "udp")", "port": "\(mapping.target.port)",
                    "outside": "\(mapping.externalAddress.map { "\($0)" } ?? "unknown"):\(mapping.externalPort)",
                    "by": "\(mapping.method.rawValue)",
                ])
        }
        var forwarded: Set<Multiaddr> = []
        for mapping in mappings {
            for address in addresses(of: mapping) where forwarded.insert(address).inserted {
                if !forwardedAddresses.contains(address) {
                    node.events.send(.portMapped(address, by: mapping.method))
                }
            }
        }
        forwardedAddresses = forwarded
        announce(isForced: true)
        changed()
    }

    /// Where a mapping leads to a listening socket from.
    func address(of mapping: PortMapping, at listener: Multiaddr) -> Multiaddr? {
        guard let external = mapping.externalAddress, mapping.target.port == listener.port,
            mapping.target.isTCP == (listener.transportKind == .tcp), let bound = listener.ipAddress,
            bound.isIP4 == external.isIP4
        else { return nil }
        // A pinhole leads to one address.
        if !bound.isIP4, bound.scope != .unspecified, bound != external { return nil }
        return listener.replacingIP(external)?.replacingPort(mapping.externalPort)
    }

    /// Where a mapping leads to this node from.
    func addresses(of mapping: PortMapping) -> [Multiaddr] {
        node.boundListeners.compactMap { address(of: mapping, at: $0) }
    }

    var mappedAddresses: [Multiaddr] { mapper.mappings.flatMap(addresses) }
}
