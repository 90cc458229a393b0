import MartletCore
import MartletIdentity
import MartletRuntime
import MartletSwarm

/// Turns addresses with names in them into addresses that can be dialed.
struct AddressResolver: Sendable {
    let resolver: Resolver
    /// A dnsaddr record may name further names; this deep and no deeper.
    private static let depthLimit = 4
    private static let resultLimit = 32

    /// - Throws: when a name cannot be looked up, with the name in the text.
    func resolve(_ address: Multiaddr) async throws -> [Multiaddr] {
        try await resolve(address, depth: 0)
    }

    private func resolve(_ address: Multiaddr, depth: Int) async throws -> [Multiaddr] {
        guard depth < Self.depthLimit else {
            throw MartletError(.dialFailed, "\(address): more than \(Self.depthLimit) names lead to one another")
        }
        let parts = Array(address.components)
        let rest = Array(parts.dropFirst())
        switch parts.first {
        case .dns(let name): return try await hosts(name, .any, rest)
        case .dns4(let name): return try await hosts(name, .ip4, rest)
        case .dns6(let name): return try await hosts(name, .ip6, rest)
        case .dnsaddr(let name): return try await dnsaddr(name, address.peerID, depth: depth)
        default: return [address]
        }
    }

    private func hosts(
        _ name: String, _ family: Resolver.Family, _ rest: [Multiaddr.Component]
    ) async throws -> [Multiaddr] {
        try await resolver.addresses(name, family: family).prefix(Self.resultLimit).compactMap { address in
            try address.hostComponent.map { try Multiaddr([$0] + rest) }
        }
    }

    private func dnsaddr(_ name: String, _ peer: PeerID?, depth: Int) async throws -> [Multiaddr] {
        var found: [Multiaddr] = []
        for text in try await resolver.textRecords("_dnsaddr." + name) where text.hasPrefix("dnsaddr=") {
            guard let address = try? Multiaddr(text.dropFirst(8)) else { continue }
            guard peer == nil || address.peerID == nil || address.peerID == peer else { continue }
            if address.needsResolution {
                found += (try? await resolve(address, depth: depth + 1)) ?? []
            } else {
                found.append(address)
            }
            if found.count >= Self.resultLimit { break }
        }
        guard !found.isEmpty else { throw MartletError(.dialFailed, "no dnsaddr record of \(name) leads to the peer") }
        return Array(found.prefix(Self.resultLimit))
    }
}
