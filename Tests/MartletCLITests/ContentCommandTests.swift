import Foundation
import Testing

@Suite struct ContentCommandTests {
    private func makeFile(_ path: String, byteCount: Int) throws -> Data {
        var state: UInt64 = 1
        var data = Data(count: byteCount)
        for index in data.indices {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            data[index] = UInt8(truncatingIfNeeded: state >> 56)
        }
        try data.write(to: URL(fileURLWithPath: path))
        return data
    }

    @Test func aSharedFileIsFetchedByAnotherNode() async throws {
        try await withTemporaryFolder { folder in
            let data = try makeFile(folder + "/model", byteCount: 3_000_000)
            try RunningNode.with(folder + "/a") { a in
                let share = try CommandLineTool.run("share", folder + "/model", "--data-dir", a.directory)
                #expect(share.status == 0)
                let cid = try #require(share.lines.first)
                #expect(cid.hasPrefix("baf"))
                try RunningNode.with(folder + "/b") { b in
                    let get = try CommandLineTool.run(
                        "get", cid, "-o", folder + "/copy", "--from", a.address, "--data-dir", b.directory, "--json")
                    #expect(get.status == 0, "\(get.errors)")
                    #expect(get.lines.last?.contains("\"bytes\":3000000") == true)
                    #expect(get.lines.last?.contains(a.peer) == true)
                }
                #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/copy")) == data)
            }
        }
    }

    @Test func getWorksWithoutARunningNode() async throws {
        try await withTemporaryFolder { folder in
            let data = try makeFile(folder + "/model", byteCount: 700_000)
            try RunningNode.with(folder + "/a") { a in
                let cid = try #require(
                    try CommandLineTool.run("share", folder + "/model", "--data-dir", a.directory).lines.first)
                let get = try CommandLineTool.run(
                    "get", cid, "-o", folder + "/copy", "--from", a.address, "--data-dir", folder + "/none")
                #expect(get.status == 0, "\(get.errors)")
                #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/copy")) == data)
            }
        }
    }

    @Test func sharesAreListedAndTakenBack() async throws {
        try await withTemporaryFolder { folder in
            _ = try makeFile(folder + "/model", byteCount: 1000)
            try RunningNode.with(folder + "/a") { a in
                let cid = try #require(
                    try CommandLineTool.run("share", folder + "/model", "--data-dir", a.directory).lines.first)
                let listed = try CommandLineTool.run("shares", "--data-dir", a.directory)
                #expect(listed.output.contains(cid) && listed.output.contains(folder + "/model"))
                #expect(try CommandLineTool.run("unshare", cid, "--data-dir", a.directory).status == 0)
                #expect(try CommandLineTool.run("shares", "--data-dir", a.directory).output.isEmpty)
            }
        }
    }

    @Test func aFileThatIsNotThereIsNamed() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { a in
                let share = try CommandLineTool.run("share", folder + "/missing", "--data-dir", a.directory)
                #expect(share.status == 1)
                #expect(share.errors.contains(folder + "/missing"))
            }
        }
    }
}
