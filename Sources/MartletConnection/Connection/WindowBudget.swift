import Synchronization

/// The memory that the receive windows of a node's connections may grow into, together.
///
/// A stream's first 256 KiB are not counted, since the protocol gives them unasked; the number of streams bounds those.
/// Shared by loops, hence atomic.
public final class WindowBudget: Sendable {
    /// In bytes.
    public let limit: Int
    private let granted = Atomic<Int>(0)

    public init(limit: Int) {
        self.limit = limit
    }

    /// The bytes granted at the moment.
    public var inUse: Int { granted.load(ordering: .relaxed) }

    /// Takes `count` bytes if that many are left.
    public func reserve(_ count: Int) -> Bool {
        var current = granted.load(ordering: .relaxed)
        while count <= limit - current {
            let (exchanged, seen) = granted.weakCompareExchange(
                expected: current, desired: current + count, ordering: .relaxed)
            if exchanged { return true }
            current = seen
        }
        return false
    }

    /// Gives back what `reserve` took.
    public func release(_ count: Int) {
        let (_, left) = granted.subtract(count, ordering: .relaxed)
        assert(left >= 0, "more window released than was reserved")
    }
}
