import MartletCore

/// Reads a pickle of any protocol from 0 to 5, as far as it is made of plain values.
///
/// It is a machine with a stack, a memo and no way to name a class or a function: what would is refused by name.
struct PickleDecoder {
    /// No pickle of ours or of CPython's has longer numbers in text.
    static let numberTextSize = 1024

    let limits: PickleLimits
    var input: PickleInput
    private var graph: PickleGraph
    private var stack: [Int] = []
    /// How high the stack was at each mark.
    private var marks: [Int] = []
    private var memo: [Int: Int] = [:]
    private var pushCount = 0
    /// The opcode that is carried out, and where it is.
    private var opcode = PickleOpcode.none
    private var position = 0

    init(_ bytes: Bytes, limits: PickleLimits) {
        self.limits = limits
        input = PickleInput(bytes)
        graph = PickleGraph(limits: limits)
    }

    mutating func decode() throws(PickleError) -> PickleValue {
        guard input.bytes.count <= limits.byteCount else {
            throw .limit(name: "byteCount", value: limits.byteCount, position: limits.byteCount)
        }
        while true {
            position = input.position
            let byte = try input.readByte()
            guard let opcode = PickleOpcode(rawValue: byte) else {
                throw .refusedOpcode(name: PickleOpcode.refusedName(byte), opcode: byte, position: position)
            }
            self.opcode = opcode
            if opcode == .stop { return try end() }
            try carryOut(opcode)
        }
    }

    private mutating func end() throws(PickleError) -> PickleValue {
        let result = try pop()
        guard stack.isEmpty, marks.isEmpty, input.isAtEnd else { throw .leftover(position: position) }
        return try graph.value(result)
    }

    private mutating func carryOut(_ opcode: PickleOpcode) throws(PickleError) {
        switch opcode {
        case .stop: break
        case .proto:
            let version = try input.readByte()
            guard version <= 5 else { throw .unsupportedProtocol(version: version, position: position) }
        case .frame:
            // Frames only help who reads from a file; here all is there, or is not.
            guard try input.readInteger(8) <= UInt64(input.remaining) else { throw .truncated(position: position) }
        case .mark: marks.append(stack.count)
        case .pop:
            if stack.count > floor { stack.removeLast() } else if marks.popLast() == nil { throw badStack }
        case .popMark: _ = try popToMark()
        case .dup: try push(top())
        case .none, .newTrue, .newFalse, .int, .binInt, .binInt1, .binInt2, .long, .long1, .long4, .float, .binFloat,
            .unicode, .shortBinUnicode, .binUnicode, .binUnicode8, .shortBinBytes, .binBytes, .binBytes8:
            try push(graph.add(.value(input.readScalar(opcode, at: position, limits)), at: position))
        case .emptyList, .append, .appends, .list, .emptyTuple, .tuple, .tuple1, .tuple2, .tuple3, .emptyDict, .dict,
            .setItem, .setItems:
            try build(opcode)
        case .put, .binPut, .longBinPut, .memoize, .get, .binGet, .longBinGet: try useMemo(opcode)
        }
    }

    private mutating func build(_ opcode: PickleOpcode) throws(PickleError) {
        switch opcode {
        case .emptyList: try push(graph.add(.list([]), at: position))
        case .emptyTuple: try push(graph.add(.tuple([]), at: position))
        case .emptyDict: try push(graph.add(.dict([]), at: position))
        case .list: try push(graph.add(.list(Array(popToMark())), at: position))
        case .tuple: try push(graph.add(.tuple(Array(popToMark())), at: position))
        case .tuple1: try push(graph.add(.tuple(Array(pop(count: 1))), at: position))
        case .tuple2: try push(graph.add(.tuple(Array(pop(count: 2))), at: position))
        case .tuple3: try push(graph.add(.tuple(Array(pop(count: 3))), at: position))
        case .dict:
            let elements = try popToMark()
            guard elements.count % 2 == 0 else { throw badStack }
            try push(graph.add(.dict(Array(elements)), at: position))
        case .append:
            let element = try pop(count: 1)
            guard try graph.append(element, toList: top()) else { throw badStack }
        case .appends:
            let elements = try popToMark()
            guard try graph.append(elements, toList: top()) else { throw badStack }
        case .setItem:
            let entry = try pop(count: 2)
            guard try graph.append(entry, toDict: top()) else { throw badStack }
        case .setItems:
            let entries = try popToMark()
            guard try graph.append(entries, toDict: top()) else { throw badStack }
        default: throw badStack
        }
    }

    private mutating func useMemo(_ opcode: PickleOpcode) throws(PickleError) {
        switch opcode {
        case .memoize: try remember(memo.count)
        case .put: try remember(input.readIndexLine())
        case .binPut: try remember(Int(input.readByte()))
        case .longBinPut: try remember(Int(input.readInteger(4)))
        case .get: try recall(input.readIndexLine())
        case .binGet: try recall(Int(input.readByte()))
        case .longBinGet: try recall(Int(input.readInteger(4)))
        default: throw badStack
        }
    }

    private mutating func remember(_ index: Int) throws(PickleError) {
        memo[index] = try top()
        guard memo.count <= limits.memoCount else {
            throw .limit(name: "memoCount", value: limits.memoCount, position: position)
        }
    }

    private mutating func recall(_ index: Int) throws(PickleError) {
        guard let node = memo[index] else { throw .noMemoEntry(index: index, position: position) }
        try push(node)
    }

    // MARK: The stack

    private var badStack: PickleError { .badStack(opcode: "\(opcode)", position: position) }

    /// What lies below the last mark is out of reach until the mark is taken.
    private var floor: Int { marks.last ?? 0 }

    private mutating func push(_ node: Int) throws(PickleError) {
        pushCount += 1
        // References cost no node, but room on the stack and in containers.
        guard pushCount <= limits.valueCount else {
            throw .limit(name: "valueCount", value: limits.valueCount, position: position)
        }
        stack.append(node)
    }

    private func top() throws(PickleError) -> Int {
        guard stack.count > floor, let top = stack.last else { throw badStack }
        return top
    }

    private mutating func pop() throws(PickleError) -> Int {
        guard stack.count > floor, let top = stack.popLast() else { throw badStack }
        return top
    }

    private mutating func pop(count: Int) throws(PickleError) -> ArraySlice<Int> {
        guard stack.count - floor >= count else { throw badStack }
        let elements = Array(stack.suffix(count))
        stack.removeLast(count)
        return elements[...]
    }

    private mutating func popToMark() throws(PickleError) -> ArraySlice<Int> {
        guard let mark = marks.popLast() else { throw badStack }
        let elements = Array(stack[mark...])
        stack.removeSubrange(mark...)
        return elements[...]
    }
}
