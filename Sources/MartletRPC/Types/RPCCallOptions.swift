/// The class of a call. A class is a stream of its own, so that nothing of a lower class delays a higher one.
@frozen
public enum RPCPriority: UInt8, Hashable, Sendable, CaseIterable {
    /// Small and urgent: cluster control, aborts, heartbeats.
    case control = 0
    /// What a model waits for.
    case activation = 1
    /// What may take its time: weights, checkpoints, logs.
    case bulk = 2
}

/// How a call is made.
public struct RPCCallOptions: Sendable {
    /// How long the call may take, on both sides together; nil for as long as it needs.
    public var deadline: Duration?
    public var priority: RPCPriority
    /// Sent before the message; seen by authorisation and by the handler.
    public var metadata: RPCMetadata
    /// Whether running twice does no harm. Only then is a call repeated whose first attempt may have run.
    public var idempotent: Bool

    public init(
        deadline: Duration? = nil, priority: RPCPriority = .activation, metadata: RPCMetadata = [:],
        idempotent: Bool = false
    ) {
        self.deadline = deadline
        self.priority = priority
        self.metadata = metadata
        self.idempotent = idempotent
    }
}

/// Names and values that travel with a call, in order. A name may occur more than once.
public struct RPCMetadata: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    /// One name and its value.
    public struct Entry: Hashable, Sendable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    public var entries: [Entry]

    public init(_ entries: [Entry] = []) { self.entries = entries }

    public init(dictionaryLiteral elements: (String, String)...) {
        entries = elements.map { Entry(name: $0.0, value: $0.1) }
    }

    public var isEmpty: Bool { entries.isEmpty }

    /// The first value called `name`. Setting replaces all values of that name; nil removes them.
    public subscript(name: String) -> String? {
        get { entries.first { $0.name == name }?.value }
        set {
            entries.removeAll { $0.name == name }
            if let newValue { entries.append(Entry(name: name, value: newValue)) }
        }
    }
}
