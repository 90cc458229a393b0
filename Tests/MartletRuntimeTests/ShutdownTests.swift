import Glibc
import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct ShutdownTests {
    @Test func shutdownClosesWhatIsOpenAndTellsIt() async throws {
        let group = try EventLoopGroup(loopCount: 2)
        let (one, two) = (group.loops[0], group.loops[1])
        let pair = try await connectedPair(one, two)
        // A transfer under way, a listener, a timer, a datagram socket, a connect that hangs, a look-up.
        pair.dialer.loop.execute {
            pair.dialer.zerosToSend = 1 << 30
            pair.dialer.socket?.setNeedsFlush()
        }
        let fired = Latch()
        try await one.perform {
            _ = try StreamListener.listen(loop: one, address: .loopback(port: 0)) { $0.close() }
            _ = try DatagramSocket.bind(loop: one, address: .loopback(port: 0))
            LoopTimer(loop: one) { fired.signal() }.schedule(at: one.now + .seconds(3_600))
        }
        await pair.listener.wait { $0.receivedByteCount > 0 }
        var configuration = Resolver.Configuration()
        configuration.servers = [.loopback(port: 9)]
        let resolver = Resolver(loop: one, configuration: configuration)
        let lookUp = Task { try await resolver.addresses("never.example.org") }
        await group.shutdown()
        #expect(pair.dialer.closedCount == 1)
        #expect(pair.listener.closedCount == 1)
        #expect(fired.count == 0)
        await #expect(throws: ResolverError.self) { try await lookUp.value }
        #expect(!one.schedule(LoopWork()))
        #expect(!one.execute {})
        await #expect(throws: SocketError.self) { try await one.perform {} }
    }

    @Test func tasksGoOnElsewhereAfterShutdown() async throws {
        let group = try EventLoopGroup(loopCount: 1)
        let loop = group.next()
        let started = Latch()
        let mayGoOn = Latch()
        let task = Task(executorPreference: loop) {
            started.signal()
            await mayGoOn.wait()
            return 5
        }
        await started.wait()
        await group.shutdown()
        mayGoOn.signal()
        #expect(await task.value == 5)
        #expect(await Task(executorPreference: loop) { 6 }.value == 6)
    }

    @Test func shutdownWaitsForRunningTasksAndWork() async throws {
        let group = try EventLoopGroup(loopCount: 1)
        let loop = group.next()
        let count = Confined(0)
        for _ in 0..<1_000 { loop.execute { count.value += 1 } }
        let gate = ThreadGate()
        let task = Task(executorPreference: loop) { gate.wait() }
        await eventually { gate.enteredCount == 1 }
        let down = Task { await group.shutdown() }
        gate.open()
        await down.value
        await task.value
        #expect(count.value == 1_000)
    }

    @Test func shutdownFromATaskOfTheLoopItself() async throws {
        let group = try EventLoopGroup(loopCount: 1)
        await Task(executorPreference: group.next()) { await group.shutdown() }.value
    }

    @Test func shutdownTwiceIsOnce() async throws {
        let group = try EventLoopGroup(loopCount: 2)
        async let one: Void = group.shutdown()
        async let two: Void = group.shutdown()
        _ = await (one, two)
        await group.shutdown()
    }

    @Test func startingAgainLeavesNothingBehind() async throws {
        for _ in 0..<30 {
            weak var loop: EventLoop?
            weak var socketDelegate: TestPeer?
            do {
                let group = try EventLoopGroup(loopCount: 1)
                let pair = try await connectedPair(group.loops[0], group.loops[0])
                pair.dialer.send([1])
                await pair.listener.wait { $0.received == [1] }
                loop = group.loops[0]
                socketDelegate = pair.dialer
                await group.shutdown()
            }
            // The thread that told us may still hold the loop for an instant.
            while loop != nil { try await Task.sleep(for: .milliseconds(1)) }
            #expect(socketDelegate == nil)
        }
    }

    @Test func aGroupLetGoOfEndsByItself() async throws {
        weak var loop: EventLoop?
        do {
            let group = try EventLoopGroup(loopCount: 1)
            try await group.next().perform {}
            loop = group.loops[0]
        }
        while loop != nil { try await Task.sleep(for: .milliseconds(1)) }
    }
}
