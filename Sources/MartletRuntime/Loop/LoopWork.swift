import Synchronization

/// Something to be done on a loop, made once and scheduled as often as needed, without allocating.
///
///     final class Outbox: LoopWork, @unchecked Sendable {
///         override func run() { /* drain a locked array, holding the loop */ }
///     }
///     loop.schedule(outbox)   // from any thread; further calls before it ran cost one atomic exchange
///
/// A work belongs to one loop: never schedule it on two.
open class LoopWork: @unchecked Sendable {
    let isScheduled = Atomic<Bool>(false)
    /// Touched by the holder of the role only.
    var isAtEndOfTurn = false

    public init() {}

    /// Called while holding the loop's role. Whatever was published before `schedule` is visible here.
    open func run() {}
}

/// A closure as a work, for `EventLoop.execute`.
final class ClosureWork: LoopWork, @unchecked Sendable {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    override func run() { body() }
}
