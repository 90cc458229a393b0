import Foundation
import Testing

@Suite struct DoctorCommandTests {
    private func report(_ result: CommandLineTool.Outcome) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
    }

    @Test func aNodeThatOnlyListensOnThisMachineIsReachedByNobody() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder) { node in
                let result = try CommandLineTool.run("doctor", "--data-dir", folder, "--timeout", "0", "--json")
                #expect(result.status == 0)
                let found = try report(result)
                #expect(found["reachability"] as? String == "unreachable")
                let sockets = try #require(found["sockets"] as? [[String: Any]])
                #expect(sockets.first?["listener"] as? String == node.address.components(separatedBy: "/p2p/")[0])
                #expect((sockets.first?["nat"] as? [String: Any])?["mapping"] as? String == "unknown")
                #expect((found["udp"] as? [String: Any])?["state"] as? String == "unknown")
                #expect((found["udp"] as? [String: Any])?["hairpin"] as? String == "unknown")
                let text = try CommandLineTool.run("doctor", "--data-dir", folder, "--timeout", "0")
                #expect(text.output.hasPrefix("Nobody outside this network reaches this node."))
            }
        }
    }

    @Test func roomForDatagramsIsToldWithWhatHelpsWhereItIsSmall() async throws {
        try await withTemporaryFolder { folder in
            let result = try CommandLineTool.run(
                "doctor", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--data-dir", folder, "--timeout", "0", "--json")
            #expect(result.status == 0)
            let found = try report(result)
            let buffers = try #require(found["udp_buffers"] as? [String: Any])
            let (received, wanted) = (buffers["receive_bytes"] as? Int, buffers["wanted_receive_bytes"] as? Int)
            #expect(try #require(received) > 0 && wanted == 8_388_608)
            let remedies = try #require(found["remedies"] as? [String])
            // It depends on the machine whether there is one; then it is among those that people read.
            let remedy = buffers["remedy"] as? String
            #expect(remedies.contains { $0.contains("sysctl -w") } == (remedy != nil))
            if let remedy { #expect(remedies.contains { $0.contains(remedy) }) }
        }
    }

    @Test func thePathsToAPeerAreTold() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { a in
                try RunningNode.with(folder + "/b") { b in
                    let result = try CommandLineTool.run(
                        "doctor", b.address, "--data-dir", folder + "/a", "--timeout", "0", "--json")
                    #expect(result.status == 0)
                    let peer = try #require(try report(result)["peer"] as? [String: Any])
                    #expect(peer["peer"] as? String == b.peer)
                    let paths = try #require(peer["paths"] as? [[String: Any]])
                    #expect(paths.map { $0["path"] as? String } == ["lan"])
                    #expect((peer["reasons"] as? [Any])?.isEmpty == true)
                }
            }
        }
    }

    @Test func aPeerThatIsNotThereIsNamedAsTheReason() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder) { _ in
                let result = try CommandLineTool.run(
                    "doctor", "/ip4/127.0.0.1/tcp/1", "--data-dir", folder, "--timeout", "0")
                #expect(result.status == 2)
                #expect(result.output.contains("There is no connection to the peer at all."))
                #expect(result.output.contains("What helps:"))
            }
        }
    }
}
