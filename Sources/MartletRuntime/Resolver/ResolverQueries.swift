import CCares

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension AnyResolverQuery {
    /// The error for a status of c-ares.
    func error(_ status: CInt) -> ResolverError {
        switch status {
        case CInt(ARES_ENODATA), CInt(ARES_ENOTFOUND), CInt(ARES_ENONAME):
            .notFound(name: name)
        case CInt(ARES_EBADNAME): .invalidName(name)
        case CInt(ARES_ETIMEOUT): .timedOut(name: name)
        case CInt(ARES_ECANCELLED): .cancelled
        case CInt(ARES_EDESTRUCTION): .shutDown
        default: .failed(name: name, reason: ares_strerror(status).map { String(cString: $0) } ?? "status \(status)")
        }
    }
}

/// What c-ares carries for a look-up, retained from the question to the answer, which always comes.
private final class Ticket {
    let query: AnyResolverQuery
    let channel: ResolverChannel

    init(_ query: AnyResolverQuery, _ channel: ResolverChannel) {
        self.query = query
        self.channel = channel
    }

    static func take<Q: AnyResolverQuery>(_ argument: UnsafeMutableRawPointer?, as: Q.Type) -> (Q, ResolverChannel)? {
        guard let argument else { return nil }
        // Balances the retain made when the question was asked.
        let ticket = Unmanaged<Ticket>.fromOpaque(argument).takeRetainedValue()
        return (ticket.query as? Q).map { ($0, ticket.channel) }
    }
}

final class AddressQuery: ResolverQuery<SocketAddress>, @unchecked Sendable {
    private let family: Resolver.Family
    private let limit: Int

    init(name: String, family: Resolver.Family, limit: Int) {
        self.family = family
        self.limit = limit
        super.init(name: name)
    }

    override func start(_ channel: ResolverChannel) {
        var hints = ares_addrinfo_hints()
        hints.ai_socktype = Descriptor.stream
        hints.ai_family =
            switch family {
            case .any: AF_UNSPEC
            case .ip4: AF_INET
            case .ip6: AF_INET6
            }
        let ticket = Unmanaged.passRetained(Ticket(self, channel)).toOpaque()
        ares_getaddrinfo(
            channel.ares, name, nil, &hints,
            { argument, status, _, info in
                defer { if let info { ares_freeaddrinfo(info) } }
                guard let (query, channel) = Ticket.take(argument, as: AddressQuery.self) else { return }
                query.answered(status, info)
                channel.finished(query)
            }, ticket)
    }

    private func answered(_ status: CInt, _ info: UnsafeMutablePointer<ares_addrinfo>?) {
        guard status == CInt(ARES_SUCCESS) else { return fail(error(status)) }
        var addresses: [SocketAddress] = []
        var node = info?.pointee.nodes
        while let current = node, addresses.count < limit {
            if let pointer = current.pointee.ai_addr,
                let address = SocketAddress(pointer, length: socklen_t(current.pointee.ai_addrlen)),
                !addresses.contains(address)
            {
                addresses.append(address)
            }
            node = current.pointee.ai_next
        }
        resolve(addresses.isEmpty ? .failure(.notFound(name: name)) : .success(addresses))
    }
}

final class TextQuery: ResolverQuery<String>, @unchecked Sendable {
    private let limit: Int

    init(name: String, limit: Int) {
        self.limit = limit
        super.init(name: name)
    }

    override func start(_ channel: ResolverChannel) {
        let ticket = Unmanaged.passRetained(Ticket(self, channel)).toOpaque()
        // Class IN, type TXT (RFC 1035, section 3.2).
        ares_query(
            channel.ares, name, 1, 16,
            { argument, status, _, bytes, count in
                guard let (query, channel) = Ticket.take(argument, as: TextQuery.self) else { return }
                query.answered(status, UnsafePointer(bytes), count)
                channel.finished(query)
            }, ticket)
    }

    private func answered(_ status: CInt, _ bytes: UnsafePointer<UInt8>?, _ count: CInt) {
        guard status == CInt(ARES_SUCCESS), let bytes else { return fail(error(status)) }
        var list: UnsafeMutablePointer<ares_txt_ext>?
        let parsed = ares_parse_txt_reply_ext(bytes, count, &list)
        defer { if let list { ares_free_data(list) } }
        guard parsed == CInt(ARES_SUCCESS) else { return fail(error(parsed)) }
        var records: [[UInt8]] = []
        var node = list
        while let current = node {
            let piece = UnsafeBufferPointer(start: current.pointee.txt, count: current.pointee.length)
            if current.pointee.record_start != 0 || records.isEmpty {
                guard records.count < limit else { break }
                records.append([])
            }
            records[records.count - 1] += piece
            node = current.pointee.next
        }
        resolve(.success(records.map { String(decoding: $0, as: UTF8.self) }))
    }
}
