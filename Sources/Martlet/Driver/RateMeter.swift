import MartletCore
import Synchronization

/// How many bytes a connection moves per second. Written on the connection's loop, read from any.
final class RateMeter: Sendable {
    private static let window = Duration.seconds(1)
    /// What was published longer ago says nothing about now: the connection is at rest.
    private static let validity = Duration.seconds(3)

    private let received = Atomic<UInt64>(0)
    private let sent = Atomic<UInt64>(0)
    private let publishedAt = Atomic<Int64>(.min)

    /// Where the counters stood when the window began. Confined to the connection's loop.
    struct Window {
        var start = Instant(nanoseconds: 0)
        var received: UInt64 = 0
        var sent: UInt64 = 0
    }

    /// Says where the counters stand now; publishes the rates once a window is over.
    func update(_ window: inout Window, received total: UInt64, sent totalSent: UInt64, now: Instant) {
        let elapsed = now - window.start
        guard elapsed >= Self.window else { return }
        if elapsed < Self.validity {
            let seconds = elapsed.secondsAsDouble
            received.store(UInt64(Double(total - window.received) / seconds), ordering: .relaxed)
            sent.store(UInt64(Double(totalSent - window.sent) / seconds), ordering: .relaxed)
            publishedAt.store(now.nanoseconds, ordering: .relaxed)
        }
        window = Window(start: now, received: total, sent: totalSent)
    }

    /// Bytes per second in the last second or two.
    func rates(now: Instant) -> (received: Double, sent: Double) {
        guard now - Instant(nanoseconds: publishedAt.load(ordering: .relaxed)) < Self.validity else { return (0, 0) }
        return (Double(received.load(ordering: .relaxed)), Double(sent.load(ordering: .relaxed)))
    }
}
