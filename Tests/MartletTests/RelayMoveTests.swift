import Martlet
import MartletCore
import MartletIdentity
import MartletSwarm
import TemporaryFiles
import Testing

/// What began through a relay goes on directly, and back.
@Suite struct RelayMoveTests {
    /// A caller, and a server that others reach through a relay only; it can dial the caller directly.
    private struct Scene {
        let relay: ScriptedRelay
        let pair: MovingPair

        init() async throws {
            let relay = try await ScriptedRelay()
            let server = try await NodePair.node {
                $0.listenAddresses = []
                $0.relays = [relay.address]
            }
            while try await !server.announcedAddresses().contains(where: \.isCircuit) {
                try await Task.sleep(for: .milliseconds(5))
            }
            let both = [try Multiaddr("/ip4/127.0.0.1/tcp/0"), try Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]
            let caller = try await NodePair.node { $0.listenAddresses = both }
            self.relay = relay
            pair = MovingPair(caller: caller, server: server)
            try await caller.connect(to: relay.circuit(to: server.peerID))
        }

        /// A direct connection comes beside the relayed one; then it is lost, and what it carried goes through the relay.
        func move(transport: Int, _ meanwhile: () async -> Void) async throws {
            try await pair.server.connect(to: pair.caller.listenAddresses[transport % 2].withoutPeerID)
            try await waitForPath { $0 != .relayed }
            await meanwhile()
            try await pair.lose(transport / 2 % 2 == 0 ? pair.caller : pair.server)
            try await waitForPath { $0 == .relayed }
            await meanwhile()
        }

        private func waitForPath(_ isRight: (PathKind) -> Bool) async throws {
            while true {
                if let path = try await pair.caller.status(of: pair.server.peerID)?.path, isRight(path) { return }
                try await Task.sleep(for: .milliseconds(2))
            }
        }

        func stop() async {
            await pair.stop()
            await relay.node.stop()
        }
    }

    @Test func aThousandCallsMoveFromTheRelayToADirectPathAndBack() async throws {
        let scene = try await Scene()
        let runs = Tally()
        let done = Tally()
        let endings = Tally()
        CallMix.register(scene.pair.server, runs: runs)
        try await withThrowingTaskGroup(of: [String].self) { group in
            for index in 0..<1000 {
                group.addTask {
                    await CallMix.keepCalling(
                        index, from: scene.pair.caller, to: scene.pair.server.peerID, done: done, until: endings)
                }
            }
            for transport in 0..<8 { try await scene.move(transport: transport) { await done.wait(for: 100) } }
            endings.add()
            for try await faults in group { #expect(faults == []) }
        }
        while runs.count < done.count { try await Task.sleep(for: .milliseconds(5)) }
        #expect(runs.count == done.count)
        await scene.stop()
    }

    @Test func aFetchMovesFromTheRelayToADirectPathAndBack() async throws {
        let scene = try await Scene()
        let directory = TemporaryDirectory()
        var random = RandomSource(seed: 4)
        let block = random.bytes(1 << 20)
        var original: [UInt8] = []
        for index in 0..<64 { original += block.dropFirst(index * 1000) + block.prefix(index * 1000) }
        directory.write(original, to: "model")
        let root = try await scene.pair.server.share(directory.file("model")).root
        let moves = Tally()
        let mover = Task {
            for transport in 0... {
                try await scene.move(transport: transport) { try? await Task.sleep(for: .milliseconds(20)) }
                moves.add()
            }
        }
        var summary: FetchSummary
        repeat {
            summary = try await scene.pair.caller.fetch(
                root, to: directory.file("copy"), from: [scene.relay.circuit(to: scene.pair.server.peerID)],
                replacing: true)
        } while moves.count < 3
        mover.cancel()
        _ = await mover.result
        #expect(summary.size == original.count)
        #expect(summary.sources.map(\.bytes) == [original.count])
        #expect(directory.read("copy") == original)
        await scene.stop()
    }
}
