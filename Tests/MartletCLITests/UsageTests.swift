import Testing

@Suite struct UsageTests {
    @Test(arguments: [
        ("/ip4/300.1.1.1/tcp/4001", "300.1.1.1"), ("/ip4/127.0.0.1/tcp/70000", "70000"),
        ("/ip4/127.0.0.1/nonsense/1", "nonsense"), ("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWabc", "12D3KooWabc"),
    ])
    func aWrongMultiaddrNamesThePart(address: String, part: String) async throws {
        try await onThread {
            let outcome = try CommandLineTool.run("ping", address)
            #expect(outcome.status == 64)
            // The whole address is repeated, so the part has to be named once more.
            #expect(outcome.errors.split(separator: "\n").first?.components(of: part) ?? 0 >= 2)
        }
    }

    @Test(arguments: [
        ["ping", "12D3KooWnonsense"], ["get", "bafynonsense!", "-o", "/dev/null"],
        ["bench", "ping", "/ip4/127.0.0.1/tcp/1"], ["simulate", "ping", "--nodes", "1"], ["nonsense"],
    ])
    func whatCannotBeReadIsAUsageError(command: [String]) async throws {
        try await onThread {
            let outcome = try RunningTool(command).finish()
            #expect(outcome.status == 64)
            #expect(outcome.errors.hasPrefix("martlet: "))
        }
    }

    @Test(arguments: [
        ["init"], ["id"], ["node"], ["peers"], ["ping"], ["share"], ["shares"], ["unshare"], ["get"], ["bench"],
        ["bench", "serve"], ["bench", "stream"], ["bench", "ping"], ["bench", "dial"], ["bench", "fetch"],
        ["simulate", "ping"],
    ])
    func everyCommandHelps(command: [String]) async throws {
        try await onThread {
            let outcome = try RunningTool(command + ["--help"]).finish()
            #expect(outcome.status == 0)
            #expect(outcome.output.contains("USAGE: martlet \(command.joined(separator: " "))"))
        }
    }

    @Test func commandsThatNeedANodeSaySo() async throws {
        try await withTemporaryFolder { folder in
            for command in [["peers"], ["shares"], ["share", "/etc/hostname"]] {
                let outcome = try RunningTool(command + ["--data-dir", folder, "--json"]).finish()
                #expect(outcome.status == 3)
                #expect(outcome.errors.contains("no node runs with the data directory \(folder)"))
                #expect(outcome.output.contains("\"exit_code\":3"))
            }
        }
    }
}

extension Substring {
    fileprivate func components(of part: String) -> Int {
        var count = 0
        var rest = self
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
