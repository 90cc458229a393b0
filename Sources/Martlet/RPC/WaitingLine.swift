import DequeModule

/// Tasks that wait in the order in which they came, each with something that it waits for. Any may give up before its turn.
///
/// A task takes a number first and joins when it has a continuation: so it can give up at any time in between.
struct WaitingLine<Item> {
    typealias Continuation = UnsafeContinuation<Void, any Error>

    private var waiting: Deque<(number: UInt64, item: Item, continuation: Continuation)> = []
    private var lastNumber: UInt64 = 0

    var isEmpty: Bool { waiting.isEmpty }

    mutating func takeNumber() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    mutating func join(_ number: UInt64, _ item: Item, _ continuation: Continuation) {
        waiting.append((number, item, continuation))
    }

    /// Takes one out of the line, if it is there; its task is then to be resumed.
    mutating func remove(_ number: UInt64) -> Continuation? {
        guard let index = waiting.firstIndex(where: { $0.number == number }) else { return nil }
        return waiting.remove(at: index).continuation
    }

    mutating func popFirst() -> (item: Item, continuation: Continuation)? {
        waiting.popFirst().map { ($0.item, $0.continuation) }
    }
}
