import CPortMapping
import MartletCore
import MartletReachability
import MartletRuntime

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The router that this machine's packets to the internet go through.
struct Gateway: Sendable {
    let address: IPv4Address
    /// The address of this machine on the gateway's network.
    let source: IPv4Address

    /// Reads the routing table. Blocks.
    static func find() -> Gateway? {
        guard let table = read("/proc/net/route"), let address = RoutingTable.defaultGateway(in: table) else {
            return nil
        }
        var source: UInt32 = 0
        guard martlet_source_address(address.rawValue.bigEndian, &source) == 0 else { return nil }
        return Gateway(address: address, source: IPv4Address(rawValue: UInt32(bigEndian: source)))
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

    /// Asks for mappings by NAT-PMP or UPnP; without requests, only whether it can be asked so. Blocks, for `timeout` milliseconds
    /// for each step that nobody answers.
    ///
    /// - Parameter location: where UPnP found the gateway before, and then where it found it now.
    func ask(
        _ method: PortMappingMethod, _ requests: [PortMappingRequest], at location: inout String, timeout: CInt
    ) throws(PortMappingFailure) -> GatewayAnswer {
        var mappings = requests.map { request in
            var mapping = martlet_port_mapping()
            mapping.is_tcp = request.target.isTCP ? 1 : 0
            mapping.internal_port = request.target.port
            mapping.external_port = request.externalPort
            mapping.lifetime = request.lifetime
            return mapping
        }
        var message = [CChar](repeating: 0, count: Int(MARTLET_PORT_MAPPING_TEXT))
        var epoch: UInt32?
        let external: IPAddress?
        let code: CInt
        switch method {
        case .natPMP:
            var found: UInt32 = 0
            var seconds: UInt32 = 0
            code = martlet_natpmp_map(
                address.rawValue.bigEndian, &mappings, mappings.count, timeout, &found, &seconds, &message)
            external = found == 0 ? nil : .v4(IPv4Address(rawValue: UInt32(bigEndian: found)))
            epoch = seconds
        case .upnp:
            var text = [CChar](repeating: 0, count: 64)
            var place = location.utf8.prefix(Int(MARTLET_UPNP_LOCATION_TEXT) - 1).map { CChar(bitPattern: $0) }
            place += [CChar](repeating: 0, count: Int(MARTLET_UPNP_LOCATION_TEXT) - place.count)
            code = martlet_upnp_map(
                source.description, &place, &mappings, mappings.count, timeout, &text, text.count, &message)
            external = IPAddress(Self.text(text))
            location = Self.text(place)
        case .pcp: preconditionFailure("PCP has its own way")
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

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
