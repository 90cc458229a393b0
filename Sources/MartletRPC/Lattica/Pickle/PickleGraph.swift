import MartletCore

/// The values of a pickle while it is read. Containers name their elements by index, since in Python they are references: a
/// list put in the memo while it is empty is the same list when it is full.
struct PickleGraph {
    enum Node {
        case value(PickleValue)
        case list([Int])
        case tuple([Int])
        /// Keys and values in turn.
        case dict([Int])
    }

    private struct Resolved {
        let value: PickleValue
        /// How many values it comes to, what is shared counted each time, and how many bytes of text and bytes.
        let valueCount: Int
        let byteCount: Int
        let depth: Int
    }

    private enum Progress {
        case untouched
        case entered
        case done(Resolved)
    }

    private let limits: PickleLimits
    private var nodes: [Node] = []
    private var positions: [Int] = []
    private var progress: [Progress] = []

    init(limits: PickleLimits) { self.limits = limits }

    /// Adds a value that was read at `position`; returns its index.
    mutating func add(_ node: Node, at position: Int) throws(PickleError) -> Int {
        guard nodes.count < limits.valueCount else {
            throw .limit(name: "valueCount", value: limits.valueCount, position: position)
        }
        nodes.append(node)
        positions.append(position)
        return nodes.count - 1
    }

    /// Adds elements to a list; false when `index` is something else.
    mutating func append(_ elements: ArraySlice<Int>, toList index: Int) -> Bool {
        guard case .list(var list) = nodes[index] else { return false }
        // Taken out, so that the array has one owner and grows in place.
        nodes[index] = .value(.null)
        list += elements
        nodes[index] = .list(list)
        return true
    }

    /// Adds keys and values to a dict; false when `index` is something else.
    mutating func append(_ entries: ArraySlice<Int>, toDict index: Int) -> Bool {
        guard entries.count % 2 == 0, case .dict(var dict) = nodes[index] else { return false }
        nodes[index] = .value(.null)
        dict += entries
        nodes[index] = .dict(dict)
        return true
    }

    /// The value at `index`, with everything in it.
    mutating func value(_ index: Int) throws(PickleError) -> PickleValue {
        progress = Array(repeating: .untouched, count: nodes.count)
        return try resolve(index, depth: 0).value
    }

    private mutating func resolve(_ index: Int, depth: Int) throws(PickleError) -> Resolved {
        let position = positions[index]
        switch progress[index] {
        case .done(let resolved): return resolved
        case .entered: throw .selfReference(position: position)
        case .untouched: break
        }
        // The way down is bounded here, for the stack; what a value really comes to is counted below.
        guard depth <= limits.depth else { throw .limit(name: "depth", value: limits.depth, position: position) }
        progress[index] = .entered
        let resolved: Resolved
        switch nodes[index] {
        case .value(let value): resolved = Self.leaf(value)
        case .list(let elements):
            resolved = try container(elements, depth, position) { .list($0) }
        case .tuple(let elements):
            resolved = try container(elements, depth, position) { .tuple($0) }
        case .dict(let elements):
            let all = try container(elements, depth, position) { .list($0) }
            resolved = Resolved(
                value: try Self.dict(all.value.array ?? [], position), valueCount: all.valueCount,
                byteCount: all.byteCount, depth: all.depth)
        }
        progress[index] = .done(resolved)
        return resolved
    }

    private static func leaf(_ value: PickleValue) -> Resolved {
        let byteCount =
            switch value {
            case .string(let text): text.utf8.count
            case .bytes(let bytes): bytes.count
            case .longInt(let integer): integer.bytes.count
            default: 0
            }
        return Resolved(value: value, valueCount: 1, byteCount: byteCount, depth: 0)
    }

    private mutating func container(
        _ elements: [Int], _ depth: Int, _ position: Int, _ make: ([PickleValue]) -> PickleValue
    ) throws(PickleError) -> Resolved {
        var values: [PickleValue] = []
        values.reserveCapacity(elements.count)
        var valueCount = 1
        var byteCount = 0
        var deepest = 0
        for element in elements {
            let resolved = try resolve(element, depth: depth + 1)
            values.append(resolved.value)
            // Each is within its limit, so the sums cannot overflow.
            valueCount += resolved.valueCount
            byteCount += resolved.byteCount
            deepest = max(deepest, resolved.depth)
            guard valueCount <= limits.valueCount else {
                throw .limit(name: "valueCount", value: limits.valueCount, position: position)
            }
            guard byteCount <= limits.expandedByteCount else {
                throw .limit(name: "expandedByteCount", value: limits.expandedByteCount, position: position)
            }
        }
        guard deepest < limits.depth else { throw .limit(name: "depth", value: limits.depth, position: position) }
        return Resolved(value: make(values), valueCount: valueCount, byteCount: byteCount, depth: deepest + 1)
    }

    private static func dict(_ elements: [PickleValue], _ position: Int) throws(PickleError) -> PickleValue {
        var entries: [PickleValue.Entry] = []
        entries.reserveCapacity(elements.count / 2)
        var seen: Set<PickleValue> = []
        for index in stride(from: 0, to: elements.count - 1, by: 2) {
            let key = elements[index]
            guard key.isHashable, seen.insert(key).inserted else { throw .badKey(position: position) }
            entries.append(PickleValue.Entry(key: key, value: elements[index + 1]))
        }
        return .dict(entries)
    }
}
