/// An address that spells out how to get there: which protocols, in which order.
///
///     let address = try Multiaddr("/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV")
///     address.ipAddress     // 192.0.2.1
///     address.port          // 4001
///     for component in address.components { … }
///
/// The value holds the binary form, checked once, and decodes components when asked for. An address is never empty.
/// Specification: multiformats/multiaddr and libp2p/specs/addressing.
public struct Multiaddr: Hashable, Sendable {
    /// The longest address that is accepted.
    public static let maximumByteCount = 1024
    /// The most components that an address may have.
    public static let maximumComponentCount = 32

    /// The binary form.
    public let bytes: [UInt8]

    /// For bytes that were checked.
    init(checked bytes: [UInt8]) { self.bytes = bytes }

    /// Decodes the binary form, as peers send it.
    ///
    /// - Throws: `DecodingError` naming the part that is wrong.
    public init(bytes: some Collection<UInt8>) throws(DecodingError) {
        guard bytes.count <= Self.maximumByteCount else {
            throw .tooLong(field: "multiaddr", length: UInt64(bytes.count), limit: Self.maximumByteCount)
        }
        try self.init(copying: Array(bytes))
    }

    /// Decodes the binary form, as peers send it.
    ///
    /// - Throws: `DecodingError` naming the part that is wrong.
    public init(bytes: RawSpan) throws(DecodingError) {
        guard bytes.byteCount <= Self.maximumByteCount else {
            throw .tooLong(field: "multiaddr", length: UInt64(bytes.byteCount), limit: Self.maximumByteCount)
        }
        try self.init(copying: bytes.withUnsafeBytes { Array($0) })
    }

    private init(copying bytes: [UInt8]) throws(DecodingError) {
        guard !bytes.isEmpty else { throw .invalid(field: "multiaddr", reason: "empty") }
        let span = bytes.span.bytes
        var reader = ByteReader(span)
        var count = 0
        while !reader.isAtEnd {
            count += 1
            guard count <= Self.maximumComponentCount else {
                throw .tooLong(
                    field: "multiaddr components", length: UInt64(count), limit: Self.maximumComponentCount)
            }
            let part = try RawComponent(reading: &reader)
            _ = try Component(part.code, value: span.extracting(part.value))
            // The text of a path has no end of its own.
            guard part.code != .unix || reader.isAtEnd else {
                throw .invalid(field: "multiaddr unix", reason: "a path must be the last part")
            }
        }
        self.bytes = bytes
    }

    /// Puts an address together.
    ///
    /// - Throws: `MultiaddrError` naming the component whose value is not possible.
    public init(_ components: some Collection<Component>) throws(MultiaddrError) {
        var bytes: [UInt8] = []
        for component in components { component.append(to: &bytes) }
        func fail(_ code: MultiaddrError.Code, _ message: String) -> MultiaddrError {
            MultiaddrError(code, in: components.prefix(64).map(\.description).joined(), message)
        }
        guard !components.isEmpty else { throw fail(.empty, "it has no parts") }
        for (index, component) in components.enumerated() {
            if let reason = component.refusal { throw fail(.invalidValue, reason) }
            guard component.code != .unix || index == components.count - 1 else {
                throw fail(.misplaced, "unix must be the last part")
            }
        }
        guard components.count <= Self.maximumComponentCount, bytes.count <= Self.maximumByteCount else {
            throw fail(
                .tooLong,
                "it has \(components.count) parts and \(bytes.count) bytes; the limits are "
                    + "\(Self.maximumComponentCount) and \(Self.maximumByteCount)")
        }
        self.bytes = bytes
    }
}

extension Multiaddr: Comparable {
    /// By the bytes, so that an order never depends on a hash seed.
    public static func < (left: Multiaddr, right: Multiaddr) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

extension Multiaddr {
    /// The parts of an address, decoded one by one as they are asked for.
    public struct Components: Sequence, Sendable {
        let bytes: [UInt8]

        public func makeIterator() -> Iterator { Iterator(raw: RawComponents(bytes: bytes)) }

        public struct Iterator: IteratorProtocol, Sendable {
            var raw: RawComponents

            public mutating func next() -> Component? {
                guard let part = raw.next() else { return nil }
                return raw.bytes.component(part)
            }
        }
    }

    /// The parts, from the outermost protocol on.
    public var components: Components { Components(bytes: bytes) }

    /// Walks over an address without decoding values.
    struct RawComponents: Sequence, IteratorProtocol, Sendable {
        let bytes: [UInt8]
        var position = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        mutating func next() -> RawComponent? {
            let start = position
            guard start < bytes.count else { return nil }
            var reader = ByteReader(bytes.span.bytes.extracting(start..<bytes.count))
            // The bytes were checked when the address was made, so this never fails.
            guard let part = try? RawComponent(reading: &reader) else { return nil }
            position = start + reader.position
            return RawComponent(
                code: part.code, value: part.value.lowerBound + start..<part.value.upperBound + start, start: start)
        }
    }

    var rawComponents: RawComponents { RawComponents(bytes: bytes) }
}

extension [UInt8] {
    /// Decodes a part of an address that was checked before.
    func component(_ part: RawComponent) -> Multiaddr.Component? {
        try? Multiaddr.Component(part.code, value: span.bytes.extracting(part.value))
    }
}
