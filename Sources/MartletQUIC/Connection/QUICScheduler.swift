import DequeModule
import MartletConnection

/// The order in which streams are sent: classes strictly, and within a class in turns of some KiB.
struct QUICScheduler {
    /// How much of one stream goes before the next of its class has its turn.
    static let turnByteCount = 16 * 1024

    private var classes: [Deque<QUICStream>] = StreamPriority.allCases.map { _ in Deque() }

    /// Puts a stream in line if it has something to send and is not there already.
    mutating func add(_ stream: QUICStream) {
        guard stream.wantsToSend, !stream.isScheduled else { return }
        stream.isScheduled = true
        stream.turnByteCount = 0
        classes[Int(stream.priority.rawValue)].append(stream)
    }

    /// The stream whose turn it is.
    mutating func next() -> QUICStream? {
        for index in classes.indices {
            while let stream = classes[index].first {
                guard stream.wantsToSend, Int(stream.priority.rawValue) == index else {
                    classes[index].removeFirst()
                    stream.isScheduled = false
                    // It may have changed its class.
                    add(stream)
                    continue
                }
                return stream
            }
        }
        return nil
    }

    /// Counts what was sent of the stream whose turn it is, and ends its turn when that was enough.
    mutating func sent(_ count: Int, of stream: QUICStream) {
        stream.turnByteCount += count
        guard stream.turnByteCount >= Self.turnByteCount else { return }
        stream.turnByteCount = 0
        let index = Int(stream.priority.rawValue)
        guard classes[index].first === stream else { return }
        classes[index].append(classes[index].removeFirst())
    }

    /// A stream of a class that changed moves to its new line.
    mutating func move(_ stream: QUICStream, from old: StreamPriority) {
        guard stream.isScheduled else { return }
        classes[Int(old.rawValue)].removeAll { $0 === stream }
        stream.isScheduled = false
        add(stream)
    }

    mutating func removeAll() {
        for index in classes.indices { classes[index].removeAll() }
    }
}
