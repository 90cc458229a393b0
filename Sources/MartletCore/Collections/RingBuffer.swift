/// A first-in, first-out queue with an optional limit: what anything fed by a peer waits in.
///
///     var requests = RingBuffer<Request>(limit: 64)
///     guard requests.append(request) else { /* refuse it, and say so */ }
///     while let next = requests.popFirst() { … }
///
/// Empty, it holds no memory worth mentioning: a queue that grew large gives its memory back when it runs empty.
@frozen
public struct RingBuffer<Element> {
    /// The most elements at a time.
    public let limit: Int
    @usableFromInline var slots: ContiguousArray<Element?> = []
    @usableFromInline var head = 0
    @usableFromInline var used = 0

    @usableFromInline static var keptCapacity: Int { 64 }

    @inlinable
    public init(limit: Int = .max) {
        precondition(limit > 0, "a queue with room for \(limit)")
        self.limit = limit
    }

    @inlinable public var count: Int { used }
    @inlinable public var isEmpty: Bool { used == 0 }
    @inlinable public var isFull: Bool { used >= limit }

    /// The element at the front: the one that has waited longest.
    @inlinable public var first: Element? { used == 0 ? nil : slots[head] }

    /// The element that came last.
    @inlinable public var last: Element? { used == 0 ? nil : slots[slot(used - 1)] }

    /// The element with `index` others in front of it.
    @inlinable
    public subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < used, "element \(index) of \(used)")
            // Every slot of the used range is filled.
            return slots[slot(index)].unsafelyUnwrapped
        }
        set {
            precondition(index >= 0 && index < used, "element \(index) of \(used)")
            slots[slot(index)] = newValue
        }
    }

    /// Adds `element` at the end; false, and nothing added, when the queue is full.
    @inlinable
    public mutating func append(_ element: Element) -> Bool {
        guard used < limit else { return false }
        if used == slots.count { grow() }
        slots[slot(used)] = element
        used += 1
        return true
    }

    /// Puts `element` before all others; false, and nothing added, when the queue is full.
    @inlinable
    public mutating func prepend(_ element: Element) -> Bool {
        guard used < limit else { return false }
        if used == slots.count { grow() }
        head = (head &- 1) & (slots.count &- 1)
        slots[head] = element
        used += 1
        return true
    }

    /// Takes the element at the front.
    @inlinable
    public mutating func popFirst() -> Element? {
        guard used > 0 else { return nil }
        let element = slots[head].take()
        used -= 1
        head = (head &+ 1) & (slots.count &- 1)
        if used == 0 {
            head = 0
            if slots.count > Self.keptCapacity { slots = [] }
        }
        return element
    }

    /// Drops everything, the memory included.
    @inlinable
    public mutating func removeAll() {
        slots = []
        head = 0
        used = 0
    }

    // The number of slots is a power of two, so that wrapping around is one mask.
    @inlinable
    func slot(_ index: Int) -> Int { (head &+ index) & (slots.count &- 1) }

    @usableFromInline
    mutating func grow() {
        let capacity = Swift.max(4, slots.count * 2)
        var larger = ContiguousArray<Element?>()
        larger.reserveCapacity(capacity)
        for index in 0..<used { larger.append(slots[slot(index)].take()) }
        while larger.count < capacity { larger.append(nil) }
        slots = larger
        head = 0
    }
}

extension RingBuffer: Sendable where Element: Sendable {}

extension RingBuffer: Sequence {
    /// From the front to the end, leaving the queue as it is.
    @inlinable
    public func makeIterator() -> Iterator { Iterator(self) }

    @frozen
    public struct Iterator: IteratorProtocol {
        @usableFromInline let queue: RingBuffer
        @usableFromInline var index = 0

        @inlinable
        init(_ queue: RingBuffer) { self.queue = queue }

        @inlinable
        public mutating func next() -> Element? {
            guard index < queue.count else { return nil }
            defer { index += 1 }
            return queue[index]
        }
    }
}
