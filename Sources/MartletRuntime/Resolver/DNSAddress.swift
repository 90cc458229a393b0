public import MartletCore

/// The `dnsaddr` protocol: multiaddrs kept in the TXT records of a name.
///
/// Specification: multiformats/multiaddr, protocols/DNSADDR.md.
public enum DNSAddress {
    /// How far names may lead to further names.
    public struct Limits: Sendable {
        public var depth = 4
        /// Look-ups and results in all; beyond them nothing is added.
        public var lookups = 16
        public var results = 64

        public init() {}
    }

    /// Where the records of `domain` are.
    public static func recordName(_ domain: String) -> String { "_dnsaddr.\(domain)" }

    /// The addresses in TXT records, without those that are unreadable or do not end with `suffix`.
    public static func addresses(in records: [String], endingWith suffix: [Multiaddr.Component] = []) -> [Multiaddr] {
        let prefix = "dnsaddr="
        var result: [Multiaddr] = []
        for record in records where record.hasPrefix(prefix) {
            guard let address = try? Multiaddr(record.dropFirst(prefix.count)), !result.contains(address) else {
                continue
            }
            if Array(address.components).suffix(suffix.count).elementsEqual(suffix) { result.append(address) }
        }
        return result
    }

    /// Follows a leading `/dnsaddr/…` through the records that `lookup` returns, until no address begins with one. An
    /// address that begins otherwise is returned as it is. Names that lead in a circle end at the limits.
    ///
    /// - Throws: what the first look-up throws; later ones that fail are left out.
    public static func expand<E: Error>(
        _ address: Multiaddr, limits: Limits = .init(), lookup: (String) async throws(E) -> [String]
    ) async throws(E) -> [Multiaddr] {
        var results: [Multiaddr] = []
        var lookups = 0
        var level = [address]
        for depth in 0...max(0, limits.depth) {
            var next: [Multiaddr] = []
            for address in level {
                let components = Array(address.components)
                guard case .dnsaddr(let domain)? = components.first else {
                    if results.count < limits.results, !results.contains(address) { results.append(address) }
                    continue
                }
                guard depth < limits.depth, lookups < limits.lookups else { continue }
                lookups += 1
                do throws(E) {
                    let records = try await lookup(recordName(domain))
                    next += addresses(in: records, endingWith: Array(components.dropFirst())).prefix(limits.results)
                } catch {
                    if lookups == 1 { throw error }
                }
            }
            if next.isEmpty { break }
            level = next
        }
        return results
    }
}

extension Resolver {
    /// Replaces names by what they stand for: `dnsaddr` by the addresses in its records, `dns`, `dns4` and `dns6` by IP
    /// addresses. An address without a name in front is returned as it is.
    ///
    /// - Throws: when nothing at all was found.
    public func resolve(
        _ address: Multiaddr, limits: DNSAddress.Limits = .init()
    ) async throws(ResolverError) -> [Multiaddr] {
        let expanded = try await DNSAddress.expand(address, limits: limits) { name throws(ResolverError) in
            try await textRecords(name)
        }
        var results: [Multiaddr] = []
        var failure = ResolverError.notFound(name: "\(address)")
        for address in expanded {
            do throws(ResolverError) {
                for resolved in try await hostResolved(address) where results.count < limits.results {
                    if !results.contains(resolved) { results.append(resolved) }
                }
            } catch {
                failure = error
            }
        }
        if results.isEmpty { throw failure }
        return results
    }

    private func hostResolved(_ address: Multiaddr) async throws(ResolverError) -> [Multiaddr] {
        let components = Array(address.components)
        let family: Family
        let name: String
        switch components.first {
        case .dns(let text): (name, family) = (text, .any)
        case .dns4(let text): (name, family) = (text, .ip4)
        case .dns6(let text): (name, family) = (text, .ip6)
        default: return [address]
        }
        let rest = components.dropFirst()
        return try await addresses(name, family: family).compactMap { found in
            switch found.ipAddress {
            case .v4(let ip): try? Multiaddr([.ip4(ip)] + rest)
            case .v6(let ip): try? Multiaddr([.ip6(ip)] + rest)
            case nil: nil
            }
        }
    }
}
