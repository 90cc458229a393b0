import Glibc
import MartletCore
import Synchronization
import Testing

@testable import MartletRuntime

/// Numbers handed from threads to a loop through a locked array.
private final class Mailbox: LoopWork, @unchecked Sendable {
    private let inbox = Mutex<[Int]>([])
    private let done: Latch
    private let expected: Int
    private(set) var received: [Int] = []
    private(set) var runCount = 0

    init(expected: Int, done: Latch) {
        self.expected = expected
        self.done = done
    }

    func post(_ number: Int, to loop: EventLoop) {
        inbox.withLock { $0.append(number) }
        loop.schedule(self)
    }

    override func run() {
        runCount += 1
        received += inbox.withLock { inbox in
            defer { inbox = [] }
            return inbox
        }
        if received.count == expected { done.signal() }
    }
}

private final class CountingWork: LoopWork, @unchecked Sendable {
    var count = 0
    var body: (CountingWork) -> Void = { _ in }

    override func run() {
        count += 1
        body(self)
    }
}

@Suite struct EventLoopTests {
    @Test func everyScheduleOfEightThreadsArrivesInOrder() async throws {
        try await withGroup { group in
            let loop = group.next()
            let done = Latch()
            let boxes = (0..<8).map { _ in Mailbox(expected: 1_250, done: done) }
            for box in boxes {
                let thread = startThread(stackSize: 1 << 18) { for number in 0..<1_250 { box.post(number, to: loop) } }
                pthread_detach(try #require(thread))
            }
            await done.wait(8)
            try await loop.perform { for box in boxes { #expect(box.received == Array(0..<1_250)) } }
        }
    }

    /// What a loop schedules for itself and what another thread brings are one line, whoever came between.
    @Test func worksOfTheLoopAndOfOtherThreadsRunInTheOrderInWhichTheyWereScheduled() async throws {
        try await withGroup { group in
            let loop = group.next()
            let order = Mutex<[Int]>([])
            try await loop.perform { () -> Void in
                for step in 0..<100 {
                    if step % 3 == 1 {
                        // Another thread, and this one goes on when that has scheduled.
                        let thread = startThread(stackSize: 1 << 18) {
                            loop.execute { order.withLock { $0.append(step) } }
                        }
                        pthread_join(try #require(thread), nil)
                    } else {
                        loop.execute { order.withLock { $0.append(step) } }
                    }
                }
            }
            try await loop.perform {}
            #expect(order.withLock(\.self) == Array(0..<100))
        }
    }

    @Test func schedulingAgainBeforeItRanIsOneRun() async throws {
        try await withGroup { group in
            let loop = group.next()
            let work = CountingWork()
            try await loop.perform {
                for _ in 0..<10 { loop.schedule(work) }
                #expect(work.count == 0)
            }
            try await loop.perform { #expect(work.count == 1) }
        }
    }

    @Test func workMayScheduleItselfWithoutStarvingOthers() async throws {
        try await withGroup { group in
            let loop = group.next()
            let work = CountingWork()
            try await loop.perform {
                work.body = { work in if work.count < 1_000_000_000 { loop.schedule(work) } }
                loop.schedule(work)
            }
            // Timers, tasks and other work go on.
            let fired = Latch()
            try await loop.perform {
                LoopTimer(loop: loop) { fired.signal() }.schedule(at: loop.now + .milliseconds(1))
            }
            await fired.wait()
            let value = await Task(executorPreference: loop) { 7 }.value
            #expect(value == 7)
            try await loop.perform { work.body = { _ in } }
        }
    }

    @Test func endOfTurnRunsOnceAfterTheCallbacks() async throws {
        try await withGroup { group in
            let loop = group.next()
            let flush = CountingWork()
            let order = Confined<[String]>([])
            try await loop.perform {
                flush.body = { _ in order.value.append("flush") }
                for index in 0..<3 {
                    loop.execute {
                        order.value.append("work \(index)")
                        loop.atEndOfTurn(flush)
                    }
                }
            }
            try await loop.perform {
                #expect(order.value == ["work 0", "work 1", "work 2", "flush"])
                #expect(flush.count == 1)
            }
        }
    }

    @Test func endOfTurnThatNeverEndsDoesNotHoldTheLoop() async throws {
        try await withGroup { group in
            let loop = group.next()
            let flush = CountingWork()
            let reached = Latch()
            try await loop.perform {
                flush.body = { work in
                    if work.count == 1_000 { reached.signal() }
                    loop.atEndOfTurn(work)
                }
                loop.atEndOfTurn(flush)
            }
            await reached.wait()
            try await loop.perform { flush.body = { _ in } }
        }
    }

    @Test func onlyTheHolderIsInLoop() async throws {
        try await withGroup(loopCount: 2) { group in
            let (one, two) = (group.loops[0], group.loops[1])
            #expect(!one.inLoop)
            try await one.perform {
                #expect(one.inLoop)
                #expect(!two.inLoop)
            }
            let isTaskInLoop = await Task(executorPreference: one) { one.inLoop }.value
            #expect(!isTaskInLoop)
        }
    }

    @Test func performReturnsAndThrowsWhatTheBodyDoes() async throws {
        struct Refused: Error {}
        try await withGroup { group in
            let loop = group.next()
            let value = try await loop.perform { 42 }
            #expect(value == 42)
            await #expect(throws: Refused.self) { try await loop.perform { throw Refused() } }
        }
    }

    @Test func loopsAreTakenInTurn() async throws {
        try await withGroup(loopCount: 3) { group in
            let taken = (0..<6).map { _ in ObjectIdentifier(group.next()) }
            #expect(Array(taken[..<3]) == Array(taken[3...]))
            #expect(Set(taken).count == 3)
        }
    }

    @Test func timeOfATurnStandsStill() async throws {
        try await withGroup { group in
            let loop = group.next()
            try await loop.perform {
                let before = loop.now
                let end = Instant.systemNow() + .milliseconds(1)
                while Instant.systemNow() < end {}
                #expect(loop.now == before)
                #expect(loop.now <= Instant.systemNow())
            }
        }
    }

    /// Four tasks hop between two loops, each hop a wake-up that must not be lost.
    @Test func noWakeUpIsLostBetweenLoops() async throws {
        try await withGroup(loopCount: 2) { group in
            let (one, two) = (group.loops[0], group.loops[1])
            await withTaskGroup(of: Int.self) { tasks in
                for _ in 0..<4 {
                    tasks.addTask(executorPreference: one) {
                        var hops = 0
                        for _ in 0..<5_000 {
                            hops += await Task(executorPreference: two) { 1 }.value
                        }
                        return hops
                    }
                }
                for await hops in tasks { #expect(hops == 5_000) }
            }
        }
    }

    /// Work scheduled from outside while the loop is falling asleep must wake it.
    @Test func noWakeUpIsLostFromOutside() async throws {
        var configuration = EventLoop.Configuration()
        configuration.spin = .zero
        try await withGroup(configuration: configuration) { group in
            let loop = group.next()
            await withTaskGroup(of: Void.self) { tasks in
                for _ in 0..<3 {
                    tasks.addTask {
                        for _ in 0..<5_000 { _ = try? await loop.perform {} }
                    }
                }
            }
        }
    }
}
