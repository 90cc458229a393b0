import Glibc
import MartletCore
import Synchronization
import Testing

@testable import MartletRuntime

@Suite struct ThreadTests {
    @Test func blockedTasksStallNeitherTheLoopNorOtherTasks() async throws {
        try await withGroup { group in
            let loop = group.next()
            let gate = ThreadGate()
            let blocked = (0..<6).map { _ in Task(executorPreference: loop) { gate.wait() } }
            await eventually { gate.enteredCount == 6 }
            // Tasks, work and timers go on although six threads hang.
            let value = await Task(executorPreference: loop) { 1 }.value
            #expect(value == 1)
            try await loop.perform {
                LoopTimer(loop: loop) { gate.open() }.schedule(at: loop.now + .milliseconds(2))
            }
            for task in blocked { await task.value }
        }
    }

    @Test func blockedTasksDoNotStallSockets() async throws {
        try await withGroup { group in
            let loop = group.next()
            let pair = try await connectedPair(loop, loop)
            let gate = ThreadGate()
            let blocked = (0..<3).map { _ in Task(executorPreference: loop) { gate.wait() } }
            await eventually { gate.enteredCount == 3 }
            pair.dialer.send([1, 2, 3])
            await pair.listener.wait { $0.received == [1, 2, 3] }
            gate.open()
            for task in blocked { await task.value }
        }
    }

    @Test func beyondTheThreadLimitTasksWaitTheirTurn() async throws {
        var configuration = EventLoop.Configuration()
        configuration.maximumThreads = 3
        try await withGroup(configuration: configuration) { group in
            let loop = group.next()
            let gate = ThreadGate()
            let tasks = (0..<8).map { _ in Task(executorPreference: loop) { gate.wait() } }
            await eventually { gate.enteredCount == 3 }
            #expect(loop.lock.withLock { loop.threadCount } == 3)
            gate.open()
            for task in tasks { await task.value }
            #expect(gate.enteredCount == 8)
        }
    }

    /// Where the system lets threads choose.
    @Test(.enabled(if: EventLoop.sliceOfThisThread != nil)) func threadsOfALoopRunInShortSlices() async throws {
        var configuration = EventLoop.Configuration()
        #expect(try await slice(with: configuration) == .microseconds(100))
        configuration.slice = .microseconds(200)
        #expect(try await slice(with: configuration) == .microseconds(200))
    }

    private func slice(with configuration: EventLoop.Configuration) async throws -> Duration? {
        try await withGroup(configuration: configuration) { group in
            try await group.next().perform { EventLoop.sliceOfThisThread }
        }
    }

    @Test func surplusThreadsEndWhenIdle() async throws {
        var configuration = EventLoop.Configuration()
        configuration.surplusThreadLifetime = .milliseconds(5)
        try await withGroup(configuration: configuration) { group in
            let loop = group.next()
            let gate = ThreadGate()
            let tasks = (0..<10).map { _ in Task(executorPreference: loop) { gate.wait() } }
            await eventually { gate.enteredCount == 10 }
            gate.open()
            for task in tasks { await task.value }
            await eventually { loop.lock.withLock { loop.threadCount <= loop.configuration.minimumThreads } }
            // What is left still works, and still notices a blocked task.
            let again = ThreadGate()
            let blocked = Task(executorPreference: loop) { again.wait() }
            await eventually { again.enteredCount == 1 }
            try await loop.perform {}
            again.open()
            await blocked.value
        }
    }

    @Test func heavyTasksAreSpreadOverThreads() async throws {
        try await withGroup { group in
            let loop = group.next()
            // Each task holds its thread until a while after another one began.
            let meeting = Meeting()
            await withTaskGroup(of: Void.self) { tasks in
                for _ in 0..<200 {
                    tasks.addTask(executorPreference: loop) { meeting.attend(.microseconds(300)) }
                }
            }
            #expect(meeting.mostAtOnce > 1)
        }
    }
}

/// Counts how many threads are inside at the same time.
private final class Meeting: Sendable {
    private let counts = Mutex((now: 0, most: 0))

    var mostAtOnce: Int { counts.withLock { $0.most } }

    func attend(_ time: Duration) {
        counts.withLock {
            $0.now += 1
            $0.most = max($0.most, $0.now)
        }
        let end = Instant.systemNow() + time
        while Instant.systemNow() < end {}
        counts.withLock { $0.now -= 1 }
    }
}
