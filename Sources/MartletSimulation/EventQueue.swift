import HeapModule
import MartletCore

/// What happens in a simulated network, in order of time; events of the same moment in the order in which they were planned.
struct EventQueue {
    enum Event {
        case deliver(Bytes, to: SimulatedConnection)
        case endOfFile(SimulatedConnection)
        case connectionTimer(SimulatedConnection)
        case nodeTimer(SimulatedNode)
        case dialArrives(SimulatedDial)
        case action(@Sendable (Simulation) -> Void)
    }

    private struct Entry: Comparable {
        let time: Instant
        let number: UInt64
        let event: Event

        static func < (left: Entry, right: Entry) -> Bool {
            left.time == right.time ? left.number < right.number : left.time < right.time
        }

        static func == (left: Entry, right: Entry) -> Bool { left.number == right.number }
    }

    private var heap = Heap<Entry>()
    private var lastNumber: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var nextTime: Instant? { heap.min?.time }
    private(set) var processedCount: UInt64 = 0

    mutating func plan(_ event: Event, at time: Instant) {
        lastNumber += 1
        heap.insert(Entry(time: time, number: lastNumber, event: event))
    }

    mutating func next() -> (Instant, Event)? {
        guard let entry = heap.popMin() else { return nil }
        processedCount += 1
        return (entry.time, entry.event)
    }
}
