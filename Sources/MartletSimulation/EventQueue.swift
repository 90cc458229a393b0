import HeapModule
import MartletCore

/// What happens in a simulated network, in order of time; events of the same moment in the order in which they were planned.
struct EventQueue {
    enum Event {
        case deliver(Bytes, to: SimulatedConnection)
        case endOfFile(SimulatedConnection)
        case connectionTimer(SimulatedConnection)
        case nodeTimer(SimulatedNode)
        indirect case dialArrives(SimulatedDial)
        case action(@Sendable (Simulation) -> Void)
    }

    /// What the heap moves about: small, and without references, for it is moved often. The event waits in its slot.
    private struct Entry: Comparable {
        let time: Instant
        let number: UInt64
        let slot: Int

        static func < (left: Entry, right: Entry) -> Bool {
            left.time == right.time ? left.number < right.number : left.time < right.time
        }

        static func == (left: Entry, right: Entry) -> Bool { left.number == right.number }
    }

    private var heap = Heap<Entry>()
    private var slots: [Event?] = []
    private var freeSlots: [Int] = []
    private var lastNumber: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var nextTime: Instant? { heap.min?.time }
    private(set) var processedCount: UInt64 = 0

    mutating func plan(_ event: Event, at time: Instant) {
        lastNumber += 1
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            slots[slot] = event
        } else {
            slot = slots.count
            slots.append(event)
        }
        heap.insert(Entry(time: time, number: lastNumber, slot: slot))
    }

    mutating func next() -> (Instant, Event)? {
        guard let entry = heap.popMin(), let event = slots[entry.slot].take() else { return nil }
        freeSlots.append(entry.slot)
        processedCount += 1
        return (entry.time, event)
    }
}
