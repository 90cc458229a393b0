import Foundation
import Testing

/// A node behind a relay, as users meet it: three processes on the loopback interface.
@Suite struct RelayedNodeCommandTests {
    @Test func aNodeIsReadyAtItsRelayAndPingsSayThePath() async throws {
        try await withTemporaryFolder { folder in
            let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"]
            let relay = RunningTool(["relay", "--data-dir", folder + "/relay"] + listen)
            try relay.start()
            defer {
                relay.process.terminate()
                relay.process.waitUntilExit()
            }
            let address = try #require(relay.nextLine())
            try RunningNode.with(folder + "/b", listen + ["--relay", address]) { node in
                let circuit = "\(address)/p2p-circuit/p2p/\(node.peer)"
                let id = try CommandLineTool.run("id", "--data-dir", node.directory, "--json")
                #expect(id.output.contains("p2p-circuit"))
                let ping = try CommandLineTool.run(
                    "ping", circuit, "--data-dir", folder + "/none", "--count", "2", "--interval", "0", "--json")
                #expect(ping.status == 0)
                #expect(ping.lines.count == 3)
                #expect(ping.lines.allSatisfy { $0.contains("\"path\":\"") && $0.contains("\"transport\":\"tcp\"") })
                let peers = try CommandLineTool.run("peers", "--data-dir", node.directory, "--json")
                #expect(peers.output.contains("\"in_bytes_per_s\":"))
            }
        }
    }

    @Test func aPathThatDoesNotBecomeDirectInTimeIsAFailureThatSaysSo() async throws {
        try await withTemporaryFolder { folder in
            // Nobody answers there, and nobody refuses.
            let silent = "/ip4/127.0.0.1/udp/9/quic-v1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
            let ping = try CommandLineTool.run(
                "ping", silent, "--data-dir", folder + "/none", "--until", "direct", "--timeout", "0.2", "--json")
            #expect(ping.status == 2)
            #expect(ping.output.contains("no connection to /ip4/127.0.0.1/udp/9"))
        }
    }
}
