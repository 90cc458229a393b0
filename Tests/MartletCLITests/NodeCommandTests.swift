import Foundation
import Testing

@Suite struct NodeCommandTests {
    @Test func aNodeSaysWhereItIsAndStopsInOrder() async throws {
        try await withTemporaryFolder { folder in
            let socket = folder + "/control.sock"
            let tool = try RunningNode.with(folder) { node in
                #expect(node.address.hasPrefix("/ip4/127.0.0.1/tcp/"))
                #expect(!node.address.hasPrefix("/ip4/127.0.0.1/tcp/0/"))
                #expect(try permissions(socket) == 0o600)
                let id = try CommandLineTool.run("id", "--data-dir", folder)
                #expect(id.output == node.peer + "\n")
                return node.tool
            }
            #expect(tool.process.terminationReason == .exit)
            #expect(tool.process.terminationStatus == 0)
            #expect(!FileManager.default.fileExists(atPath: socket))
        }
    }

    @Test func aSecondNodeWithTheSameDataIsRefused() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder) { node in
                let second = try CommandLineTool.run("node", "--data-dir", folder, "--listen", "/ip4/127.0.0.1/tcp/0")
                #expect(second.status == 1)
                #expect(second.errors.contains("(process \(node.tool.process.processIdentifier)) already runs"))
                #expect(second.errors.contains(folder))
            }
        }
    }

    @Test func aPortInUseIsNamed() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { node in
                let port = try #require(node.address.split(separator: "/").dropFirst(3).first)
                let second = try CommandLineTool.run(
                    "node", "--data-dir", folder + "/b", "--listen", "/ip4/127.0.0.1/tcp/\(port)")
                #expect(second.status == 1)
                #expect(second.errors.contains("127.0.0.1") && second.errors.contains(port))
                #expect(second.errors.contains("in use"))
            }
        }
    }

    @Test func aNodeThatWasKilledLeavesNothingInTheWay() async throws {
        try await withTemporaryFolder { folder in
            let peer = try RunningNode.with(folder) { node in
                kill(node.tool.process.processIdentifier, SIGKILL)
                node.tool.process.waitUntilExit()
                return node.peer
            }
            try RunningNode.with(folder) { node in
                #expect(node.peer == peer)
                let peers = try CommandLineTool.run("peers", "--data-dir", folder)
                #expect(peers.status == 0)
            }
        }
    }

    @Test func peersFindAndPingEachOther() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { a in
                let listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--peer", a.address]
                try RunningNode.with(folder + "/b", listen) { b in
                    let peers = try CommandLineTool.run("peers", "--data-dir", b.directory, "--json")
                    #expect(peers.output.contains("\"peer\":\"\(a.peer)\""))
                    #expect(peers.output.contains("\"direction\":\"outbound\""))
                    let ping = try CommandLineTool.run(
                        "ping", a.peer, "--data-dir", b.directory, "--count", "3", "--interval", "0", "--json")
                    #expect(ping.status == 0)
                    #expect(ping.lines.count == 4)
                    #expect(ping.lines.last?.contains("\"p50_us\":") == true)
                    let inbound = try CommandLineTool.run("peers", "--data-dir", a.directory, "--json")
                    #expect(inbound.output.contains("\"direction\":\"inbound\""))
                }
            }
        }
    }

    @Test func pingWorksWithoutARunningNode() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { a in
                let ping = try CommandLineTool.run(
                    "ping", a.address, "--data-dir", folder + "/none", "--count", "2", "--interval", "0.01")
                #expect(ping.status == 0)
                #expect(ping.lines.count == 3)
                #expect(!FileManager.default.fileExists(atPath: folder + "/none"))
            }
        }
    }

    @Test func aDialToTheWrongPeerSaysBothIDs() async throws {
        try await withTemporaryFolder { folder in
            let other = try CommandLineTool.run("init", "--data-dir", folder + "/other").lines[0]
            try RunningNode.with(folder + "/a") { a in
                let wrong = a.address.replacingOccurrences(of: a.peer, with: other)
                let ping = try CommandLineTool.run("ping", wrong, "--data-dir", folder + "/none")
                #expect(ping.status == 2)
                #expect(ping.errors.contains(other) && ping.errors.contains(a.peer))
            }
        }
    }

    @Test func nobodyThereIsUnreachable() async throws {
        try await withTemporaryFolder { folder in
            // A port that was free a moment ago.
            let address = try RunningNode.with(folder + "/a") { $0.address }
            let ping = try CommandLineTool.run("ping", address, "--data-dir", folder + "/none", "--json")
            #expect(ping.status == 2)
            #expect(ping.output.contains("\"code\":\"dialFailed\""))
        }
    }
}
