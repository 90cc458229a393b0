/// Elements in numbered places that are used again. An id says which use it means, so an id that outlived its element
/// finds nothing instead of the next tenant.
///
///     var connections = Slab<Connection>(limit: 1000)
///     guard let id = connections.insert(connection) else { /* full */ }
///     connections.update(id) { $0.lastSeen = now }
///     connections.remove(id)
///
/// Looking up costs an array index, and walking over it always goes in the order of the places.
@frozen
public struct Slab<Element> {
    /// An element's place and which use of it is meant.
    @frozen
    public struct ID: Hashable, Comparable, Sendable {
        public let index: UInt32
        public let generation: UInt32

        @inlinable
        init(index: UInt32, generation: UInt32) {
            self.index = index
            self.generation = generation
        }

        /// Both numbers in one, for C callbacks and logs.
        @inlinable public var rawValue: UInt64 { UInt64(generation) << 32 | UInt64(index) }

        @inlinable
        public init(rawValue: UInt64) {
            self.init(
                index: UInt32(truncatingIfNeeded: rawValue), generation: UInt32(truncatingIfNeeded: rawValue >> 32))
        }

        @inlinable
        public static func < (left: ID, right: ID) -> Bool {
            (left.index, left.generation) < (right.index, right.generation)
        }
    }

    @usableFromInline
    struct Slot {
        @usableFromInline var element: Element?
        @usableFromInline var generation: UInt32

        @inlinable
        init(element: Element?, generation: UInt32) {
            self.element = element
            self.generation = generation
        }
    }

    /// The most elements at a time.
    public let limit: Int
    @usableFromInline var slots: ContiguousArray<Slot> = []
    @usableFromInline var free: ContiguousArray<UInt32> = []

    @inlinable
    public init(limit: Int = Int(UInt32.max)) {
        precondition(limit > 0 && limit <= Int(UInt32.max), "a slab with room for \(limit)")
        self.limit = limit
    }

    @inlinable public var count: Int { slots.count - free.count }
    @inlinable public var isEmpty: Bool { count == 0 }

    /// Stores `element`; nil, and nothing stored, when the slab is full.
    @inlinable
    public mutating func insert(_ element: Element) -> ID? {
        if let index = free.popLast() {
            slots[Int(index)].element = element
            return ID(index: index, generation: slots[Int(index)].generation)
        }
        guard slots.count < limit else { return nil }
        slots.append(Slot(element: element, generation: 0))
        return ID(index: UInt32(slots.count - 1), generation: 0)
    }

    /// The element, unless it is gone.
    @inlinable
    public subscript(id: ID) -> Element? {
        guard let index = place(id) else { return nil }
        return slots[index].element
    }

    /// Changes the element in place; nil when it is gone.
    @inlinable
    @discardableResult
    public mutating func update<R, E: Error>(_ id: ID, _ body: (inout Element) throws(E) -> R) throws(E) -> R? {
        guard let index = place(id) else { return nil }
        // place() found an element there.
        return try body(&slots[index].element!)
    }

    /// Takes the element out; its id finds nothing from now on. Nil when it was gone.
    @inlinable
    @discardableResult
    public mutating func remove(_ id: ID) -> Element? {
        guard let index = place(id) else { return nil }
        slots[index].generation &+= 1
        free.append(id.index)
        return slots[index].element.take()
    }

    /// The ids of all elements, in the order of their places.
    public var ids: [ID] {
        slots.indices.compactMap { index in
            slots[index].element == nil ? nil : ID(index: UInt32(index), generation: slots[index].generation)
        }
    }

    @inlinable
    func place(_ id: ID) -> Int? {
        let index = Int(id.index)
        guard index < slots.count, slots[index].generation == id.generation, slots[index].element != nil else {
            return nil
        }
        return index
    }
}

extension Slab.Slot: Sendable where Element: Sendable {}
extension Slab: Sendable where Element: Sendable {}
