import CPortMapping
import MartletCore
import MartletReachability
import MartletRuntime

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The router that this machine's packets to the internet go through, and the address that it is asked from.
struct Gateway: Sendable {
    let address: IPAddress
    /// The interface, which a link-local address of IPv6 needs; else 0 and no name.
    let scope: UInt32
    let interface: String
    /// The address of this machine that the gateway is to do something for.
    let source: IPAddress

    /// What UPnP found out and needs again.
    struct UPnPState: Sendable {
        /// Where the gateway was found before.
        var location = ""
        /// What the gateway names pinholes by.
        var pinholes: [PortMappingTarget: UInt16] = [:]
    }

    /// Reads the routing table. Blocks.
    ///
    /// - Parameter client: an own IPv6 address, for the gateway of its interface; nil for that of IPv4.
    static func find(for client: IPv6Address?) -> Gateway? {
        guard let client else { return findIPv4() }
        let own = read("/proc/net/if_inet6").map(RoutingTable.globalAddresses) ?? []
        guard let interface = own.first(where: { $0.address == client })?.interface,
            let table = read("/proc/net/ipv6_route"),
            let address = RoutingTable.defaultGateway(in: table, by: interface)
        else { return nil }
        let scope = IPAddress.v6(address).scope == .linkLocal ? if_nametoindex(interface) : 0
        return Gateway(address: .v6(address), scope: scope, interface: interface, source: .v6(client))
    }

    private static func findIPv4() -> Gateway? {
        guard let table = read("/proc/net/route"), let address = RoutingTable.defaultGateway(in: table) else {
            return nil
        }
        var source: UInt32 = 0
        guard martlet_source_address(address.rawValue.bigEndian, &source) == 0 else { return nil }
        return Gateway(
            address: .v4(address), scope: 0, interface: "",
            source: .v4(IPv4Address(rawValue: UInt32(bigEndian: source))))
    }

    /// The own IPv6 addresses that a router may be asked to let packets in to.
    static func globalIPv6Addresses() -> [IPv6Address] {
        (read("/proc/net/if_inet6").map(RoutingTable.globalAddresses) ?? []).map(\.address)
    }

    private static func read(_ path: String) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var content: [UInt8] = []
        while content.count < RoutingTable.sizeLimit {
            let part = [UInt8](unsafeUninitializedCapacity: 16_384) { buffer, count in
                #if canImport(Glibc)
                    count = max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count))
                #else
                    count = max(0, Darwin.read(descriptor, buffer.baseAddress, buffer.count))
                #endif
            }
            guard !part.isEmpty else { break }
            content += part
        }
        return content
    }

    /// Asks for mappings by NAT-PMP or UPnP, or for pinholes by UPnP; without requests, only whether it can be asked so. Blocks, for
    /// `timeout` milliseconds for each step that nobody answers.
    func ask(
        _ method: PortMappingMethod, _ requests: [PortMappingRequest], _ state: inout UPnPState, timeout: CInt
    ) throws(PortMappingFailure) -> GatewayAnswer {
        var mappings = requests.map { request in
            var mapping = martlet_port_mapping()
            mapping.is_tcp = request.target.isTCP ? 1 : 0
            mapping.internal_port = request.target.port
            mapping.external_port = request.externalPort
            mapping.lifetime = request.lifetime
            mapping.pinhole = state.pinholes[request.target] ?? 0
            return mapping
        }
        var message = [CChar](repeating: 0, count: Int(MARTLET_PORT_MAPPING_TEXT))
        var epoch: UInt32?
        let external: IPAddress?
        let code: CInt
        switch (method, address) {
        case (.natPMP, .v4(let address)):
            var found: UInt32 = 0
            var seconds: UInt32 = 0
            code = martlet_natpmp_map(
                address.rawValue.bigEndian, &mappings, mappings.count, timeout, &found, &seconds, &message)
            external = found == 0 ? nil : .v4(IPv4Address(rawValue: UInt32(bigEndian: found)))
            epoch = seconds
        case (.upnp, .v4):
            var text = [CChar](repeating: 0, count: 64)
            var place = Self.characters(state.location)
            code = martlet_upnp_map(
                source.description, &place, &mappings, mappings.count, timeout, &text, text.count, &message)
            external = IPAddress(Self.text(text))
            state.location = Self.text(place)
        case (.upnp, .v6):
            var place = Self.characters(state.location)
            code = martlet_upnp_open_pinholes(
                interface, source.description, &place, &mappings, mappings.count, timeout, &message)
            external = source
            state.location = Self.text(place)
            for (request, mapping) in zip(requests, mappings) {
                state.pinholes[request.target] = mapping.pinhole == 0 ? nil : mapping.pinhole
            }
        case (.natPMP, .v6), (.pcp, _): preconditionFailure("\(method.rawValue) is not asked here for \(source)")
        }
        guard code == 0 else { throw PortMappingFailure(Self.text(message)) }
        let answers = zip(requests, mappings).map { request, mapping in
            (request, answer(to: mapping))
        }
        return GatewayAnswer(result: .success(answers), externalAddress: external, epoch: epoch)
    }

    private func answer(to mapping: martlet_port_mapping) -> PortMappingAnswer {
        guard mapping.error == 0 else {
            return .failed(withUnsafeBytes(of: mapping.message) { Self.text($0.map { CChar(bitPattern: $0) }) })
        }
        return .mapped(externalPort: mapping.external_port, lifetime: mapping.lifetime == 0 ? nil : mapping.lifetime)
    }

    /// A place as the C functions take and give it.
    private static func characters(_ location: String) -> [CChar] {
        let text = location.utf8.prefix(Int(MARTLET_UPNP_LOCATION_TEXT) - 1).map { CChar(bitPattern: $0) }
        return text + [CChar](repeating: 0, count: Int(MARTLET_UPNP_LOCATION_TEXT) - text.count)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
