import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Blocks the threads that wait at it until it is opened, or for two minutes.
final class BlockingGate: Sendable {
    private let isOpen = Atomic<Bool>(false)
    private let timeouts = Atomic<Int>(0)

    func wait() {
        for _ in 0..<12_000 where !isOpen.load(ordering: .acquiring) { usleep(10_000) }
        if !isOpen.load(ordering: .acquiring) { timeouts.add(1, ordering: .relaxed) }
    }

    /// Lets everybody go; returns how many had given up waiting.
    func openAndCountTimeouts() -> Int {
        isOpen.store(true, ordering: .releasing)
        return timeouts.load(ordering: .relaxed)
    }
}
