import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct BlockingPoolTests {
    @Test func resultsAndErrorsComeBack() async throws {
        struct Refused: Error {}
        let pool = BlockingPool(threadCount: 2, queueLimit: 10)
        #expect(try await pool.run { 6 * 7 } == 42)
        await #expect(throws: Refused.self) { try await pool.run { throw Refused() } }
        await pool.shutdown()
    }

    @Test func threadsAreMadeOnDemandAndEndWhenIdle() async throws {
        let pool = BlockingPool(threadCount: 4, queueLimit: 100, idleLifetime: .milliseconds(5))
        #expect(pool.threadCount == 0)
        let gate = ThreadGate()
        let tasks = (0..<20).map { _ in Task { try await pool.run { gate.wait() } } }
        await eventually { gate.enteredCount == 4 }
        #expect(pool.threadCount == 4)
        gate.open()
        for task in tasks { try await task.value }
        await eventually { pool.threadCount == 0 }
        #expect(try await pool.run { 1 } == 1)
        await pool.shutdown()
    }

    @Test func callersAreServedInOrder() async throws {
        let pool = BlockingPool(threadCount: 1, queueLimit: 100)
        let gate = ThreadGate()
        let order = Shared<[Int]>([])
        let first = Task { try await pool.run { gate.wait() } }
        await eventually { gate.enteredCount == 1 }
        var tasks: [Task<Void, any Error>] = []
        for index in 0..<20 {
            tasks.append(Task { try await pool.run { order.change { $0.append(index) } } })
            await eventually { pool.waitingCount == index + 1 }
        }
        gate.open()
        try await first.value
        for task in tasks { try await task.value }
        #expect(order.value == Array(0..<20))
        await pool.shutdown()
    }

    @Test func aFullQueueIsATypedError() async throws {
        let pool = BlockingPool(threadCount: 2, queueLimit: 3)
        let gate = ThreadGate()
        let running = (0..<2).map { _ in Task { try await pool.run { gate.wait() } } }
        await eventually { gate.enteredCount == 2 }
        let waiting = (0..<3).map { _ in Task { try await pool.run {} } }
        await eventually { pool.waitingCount == 3 }
        await #expect(throws: BlockingPoolError.queueFull(limit: 3)) { try await pool.run {} }
        gate.open()
        for task in running + waiting { try await task.value }
        await pool.shutdown()
    }

    @Test func cancellingEndsTheWaitButNotTheWork() async throws {
        let pool = BlockingPool(threadCount: 1, queueLimit: 10)
        let gate = ThreadGate()
        let running = Task { try await pool.run { gate.wait() } }
        await eventually { gate.enteredCount == 1 }
        let waiting = Task { try await pool.run { Issue.record("it was cancelled") } }
        await eventually { pool.waitingCount == 1 }
        waiting.cancel()
        running.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        gate.open()
        try await running.value
        await pool.shutdown()
    }

    @Test func shutdownFinishesWhatIsQueuedAndRefusesMore() async throws {
        let pool = BlockingPool(threadCount: 2, queueLimit: 100)
        let count = Shared(0)
        let gate = ThreadGate()
        let tasks = (0..<20).map { _ in
            Task {
                try await pool.run {
                    gate.wait()
                    count.change { $0 += 1 }
                }
            }
        }
        await eventually { pool.waitingCount == 18 }
        let down = Task { await pool.shutdown() }
        gate.open()
        await down.value
        for task in tasks { try await task.value }
        #expect(count.value == 20)
        await #expect(throws: BlockingPoolError.shutDown) { try await pool.run {} }
        await pool.shutdown()
    }

    @Test func manyCallersAtOnce() async throws {
        let pool = BlockingPool(threadCount: 3, queueLimit: 10_000)
        let sum = try await withThrowingTaskGroup(of: Int.self) { tasks in
            for index in 0..<2_000 { tasks.addTask { try await pool.run { index } } }
            return try await tasks.reduce(0, +)
        }
        #expect(sum == 1_999_000)
        await pool.shutdown()
    }
}
