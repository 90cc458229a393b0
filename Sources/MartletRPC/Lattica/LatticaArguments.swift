public import MartletCore

/// The arguments of a call to a Python service, as Lattica's own clients put them into bytes.
///
///     let bytes = try LatticaArguments.keywords(["node_id": "12D3…", "layers": [0, 15]]).encoded()
///
/// None are no bytes; one is itself; several are a list; keywords are a dict; of a mixture, the dict has positional ones as
/// `arg0`, `arg1`, … Values travel as pickles, except that protobuf messages go as they are.
public enum LatticaArguments: Hashable, Sendable {
    /// A keyword argument.
    public struct Keyword: Hashable, Sendable {
        public var name: String
        public var value: PickleValue

        public init(_ name: String, _ value: PickleValue) {
            self.name = name
            self.value = value
        }
    }

    case none
    case positional([PickleValue])
    case named([Keyword])
    case mixed([PickleValue], [Keyword])
    /// A serialized protobuf message, or whatever else the method takes as bytes.
    case raw(Bytes)

    /// Keyword arguments, in order.
    public static func keywords(_ keywords: KeyValuePairs<String, PickleValue>) -> LatticaArguments {
        .named(keywords.map { Keyword($0.key, $0.value) })
    }

    /// The value that is pickled; nil when nothing is.
    private var value: PickleValue? {
        switch self {
        case .none, .raw: return nil
        case .positional(let values):
            if values.isEmpty { return nil }
            // One None is sent as no argument at all, as Lattica's own client does.
            return values.count == 1 ? (values[0].isNull ? nil : values[0]) : .list(values)
        case .named(let keywords): return keywords.isEmpty ? nil : Self.dict(keywords)
        case .mixed(let values, let keywords):
            if keywords.isEmpty { return LatticaArguments.positional(values).value }
            let numbered = values.enumerated().map { Keyword("arg\($0)", $1) }
            // A keyword of that name gives way, as in Python.
            let names = Set(numbered.map(\.name))
            return Self.dict(keywords.filter { !names.contains($0.name) } + numbered)
        }
    }

    private static func dict(_ keywords: [Keyword]) -> PickleValue {
        .dict(keywords.map { PickleValue.Entry(key: .string($0.name), value: $0.value) })
    }

    /// The bytes to send.
    ///
    /// - Throws: `PickleError` for values beyond `limits`, or a keyword that occurs twice.
    public func encoded(limits: PickleLimits = PickleLimits()) throws(PickleError) -> Bytes {
        if case .raw(let bytes) = self { return bytes }
        guard let value else { return Bytes() }
        return try value.pickled(limits: limits)
    }

    /// Reads what a caller sent for a method of `parameterCount` parameters, as a Lattica server spreads it over them: one
    /// parameter takes the value whatever it is; several take a dict by name, and a list or tuple by place.
    public init(decoding bytes: Bytes, parameterCount: Int, limits: PickleLimits = PickleLimits()) throws(PickleError) {
        guard !bytes.isEmpty else {
            self = .none
            return
        }
        let value = try PickleValue(pickled: bytes, limits: limits)
        switch value {
        case .null: self = .none
        case .dict(let entries) where parameterCount > 1:
            var keywords: [Keyword] = []
            for entry in entries {
                guard let name = entry.key.string else { throw .badKey(position: 0) }
                keywords.append(Keyword(name, entry.value))
            }
            self = .named(keywords)
        case .list(let values) where parameterCount > 1, .tuple(let values) where parameterCount > 1:
            self = .positional(values)
        default: self = .positional([value])
        }
    }

    /// The keyword argument called `name`.
    public subscript(name: String) -> PickleValue? {
        switch self {
        case .named(let keywords), .mixed(_, let keywords): keywords.first { $0.name == name }?.value
        default: nil
        }
    }

    /// A method's result as bytes: None is none of them.
    public static func encodeResult(_ value: PickleValue, limits: PickleLimits = PickleLimits()) throws(PickleError)
        -> Bytes
    {
        value.isNull ? Bytes() : try value.pickled(limits: limits)
    }

    /// A method's result from its bytes.
    public static func decodeResult(_ bytes: Bytes, limits: PickleLimits = PickleLimits()) throws(PickleError)
        -> PickleValue
    {
        bytes.isEmpty ? .null : try PickleValue(pickled: bytes, limits: limits)
    }
}
