public import MartletCore

/// A Python value of the kinds that may travel as a pickle: None, bool, int, float, str, bytes, list, tuple and dict.
///
///     let request: PickleValue = ["node_id": "12D3…", "layers": [0, 15], "ready": true]
///     let bytes = try request.pickled()
///     let answer = try PickleValue(pickled: bytes)
///     let layers = answer["layers"]?.array
///
/// Pickles of anything else are refused: unpickling in general runs whatever code the sender likes.
///
/// Two dicts are equal when they hold the same entries in the same order.
public enum PickleValue: Hashable, Sendable {
    /// Python's None. (Not called so here, for an optional value has a `none` of its own.)
    case null
    case bool(Bool)
    case int(Int)
    /// An int that does not fit 64 bits.
    case longInt(PickleInteger)
    case float(Double)
    case string(String)
    case bytes(Bytes)
    case list([PickleValue])
    case tuple([PickleValue])
    /// Entries in the order in which they were added, each key once.
    case dict([Entry])

    /// A key of a dict and its value. Keys are of the kinds that Python can hash: no list, no dict, and no tuple of those.
    public struct Entry: Hashable, Sendable {
        public var key: PickleValue
        public var value: PickleValue

        public init(key: PickleValue, value: PickleValue) {
            self.key = key
            self.value = value
        }
    }

    /// - Throws: `PickleError`, which says what is at which byte.
    public init(pickled bytes: Bytes, limits: PickleLimits = PickleLimits()) throws(PickleError) {
        var decoder = PickleDecoder(bytes, limits: limits)
        self = try decoder.decode()
    }

    /// The value as a pickle of protocol 4, as CPython's `pickle.dumps` writes.
    public func pickled(limits: PickleLimits = PickleLimits()) throws(PickleError) -> Bytes {
        var encoder = PickleEncoder(limits: limits)
        try encoder.write(self)
        return encoder.finish()
    }

    // MARK: Looking inside

    /// The value at `key` of a dict with keys of text.
    public subscript(key: String) -> PickleValue? {
        guard case .dict(let entries) = self else { return nil }
        return entries.first { $0.key == .string(key) }?.value
    }

    /// The elements of a list or tuple.
    public var array: [PickleValue]? {
        switch self {
        case .list(let values), .tuple(let values): values
        default: nil
        }
    }

    public var string: String? { if case .string(let text) = self { text } else { nil } }
    public var int: Int? { if case .int(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var bytes: Bytes? { if case .bytes(let bytes) = self { bytes } else { nil } }

    /// A float, or an int as one.
    public var double: Double? {
        switch self {
        case .float(let value): value
        case .int(let value): Double(value)
        default: nil
        }
    }

    /// Whether it is Python's None.
    public var isNull: Bool { self == .null }

    /// Whether it can be a key of a dict.
    var isHashable: Bool {
        switch self {
        case .list, .dict: false
        case .tuple(let values): values.allSatisfy(\.isHashable)
        default: true
        }
    }
}

extension PickleValue: ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(integerLiteral value: Int) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .float(value) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(arrayLiteral elements: PickleValue...) { self = .list(elements) }

    public init(dictionaryLiteral elements: (PickleValue, PickleValue)...) {
        self = .dict(elements.map { Entry(key: $0.0, value: $0.1) })
    }
}

/// What a pickle may cost. Errors repeat a limit's name.
public struct PickleLimits: Sendable {
    /// The size of a pickle, in bytes.
    public var byteCount = 256 << 20
    /// How deep lists, tuples and dicts may lie in each other.
    public var depth = 100
    /// Values in a pickle, and values that it comes to when what is shared is counted each time.
    public var valueCount = 1 << 20
    /// Bytes of text and bytes that it comes to, when what is shared is counted each time.
    public var expandedByteCount = 256 << 20
    /// Entries of the memo, by which values are shared.
    public var memoCount = 1 << 20
    /// An int beyond 64 bits, in bytes.
    public var integerByteCount = 256

    public init() {}
}
