import MartletCore
import MartletIdentity
import MartletRPC
import TemporaryFiles
import Testing

@testable import Martlet

/// What goes on between two nodes goes on when the connection under it is lost or replaced by a better one.
@Suite struct PathMoveTests {
    @Test(arguments: [true, false]) func aThousandCallsGoOnOverEveryChangeOfConnection(callerIsSmaller: Bool)
        async throws
    {
        let pair = try await MovingPair(callerIsSmaller: callerIsSmaller)
        let runs = Tally()
        let done = Tally()
        CallMix.register(pair.server, runs: runs)
        let endings = Tally()
        try await withThrowingTaskGroup(of: [String].self) { group in
            for index in 0..<1000 {
                group.addTask {
                    await CallMix.keepCalling(
                        index, from: pair.caller, to: pair.server.peerID, done: done, until: endings)
                }
            }
            for transport in 0..<8 {
                await done.wait(for: 100)
                try await pair.replaceConnection(transport: transport)
                await done.wait(for: 100)
                if transport % 4 == 3 { try await pair.loseAll() }
            }
            endings.add()
            for try await faults in group { #expect(faults == []) }
        }
        // Each ran once; one-way calls may still be on their way.
        while runs.count < done.count { try await Task.sleep(for: .milliseconds(5)) }
        #expect(runs.count == done.count)
        await pair.stop()
    }

    @Test func theConnectionThatCallsHaveLeftIsClosed() async throws {
        let pair = try await MovingPair(callerIsSmaller: true)
        CallMix.register(pair.server, runs: Tally())
        for transport in 0..<4 {
            #expect(try await CallMix.call(.unary, 1, from: pair.caller, to: pair.server.peerID) == nil)
            try await pair.replaceConnection(transport: transport)
        }
        while try await pair.caller.peers().count > 1 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await CallMix.call(.unary, 1, from: pair.caller, to: pair.server.peerID) == nil)
        await pair.stop()
    }

    @Test(arguments: [true, false]) func aFetchGoesOnOverEveryChangeOfConnection(callerIsSmaller: Bool) async throws {
        let directory = TemporaryDirectory()
        let pair = try await MovingPair(callerIsSmaller: callerIsSmaller)
        var random = RandomSource(seed: 3)
        let block = random.bytes(1 << 20)
        var original: [UInt8] = []
        // Every megabyte differs from the others.
        for index in 0..<64 { original += block.dropFirst(index * 1000) + block.prefix(index * 1000) }
        directory.write(original, to: "model")
        let root = try await pair.server.share(directory.file("model")).root
        let changes = Tally()
        let changer = Task {
            for transport in 0... {
                try await Task.sleep(for: .milliseconds(20))
                try await pair.replaceConnection(transport: transport)
                if transport % 4 == 3 { try await pair.loseAll() }
                changes.add()
            }
        }
        var summary: FetchSummary
        repeat {
            summary = try await pair.caller.fetch(
                root, to: directory.file("copy"), from: [pair.server.listenAddresses[0]], replacing: true)
        } while changes.count < 3
        changer.cancel()
        #expect(summary.size == original.count)
        #expect(summary.sources.map(\.bytes) == [original.count])
        #expect(directory.read("copy") == original)
        _ = await changer.result
        await pair.stop()
    }
}
