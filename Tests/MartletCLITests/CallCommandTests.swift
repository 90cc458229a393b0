import Foundation
import Testing

@Suite struct CallCommandTests {
    @Test func aMethodIsListedAndCalledByATemporaryNode() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { node in
                let listed = try CommandLineTool.run("services", node.address, "--data-dir", folder + "/none")
                #expect(listed.status == 0)
                #expect(listed.output.contains("martlet.Services.list  unary"))
                let called = try CommandLineTool.run(
                    "call", node.address, "martlet.Services.list", "--json", "--data-dir", folder + "/none")
                #expect(called.status == 0)
                #expect(called.output.contains("\"method\":\"martlet.Services.list\""))
            }
        }
    }

    @Test func aMethodThatIsNotThereFailsWithItsCode() async throws {
        try await withTemporaryFolder { folder in
            try RunningNode.with(folder + "/a") { node in
                let called = try CommandLineTool.run(
                    "call", node.address, "No.such", "--json", "--data-dir", folder + "/none")
                #expect(called.status == 1)
                #expect(called.errors.contains("there is no service No (the call did not run)"))
                #expect(called.output.contains("\"code\":\"unimplemented\""))
            }
        }
    }

    @Test func dataAndFileExcludeEachOther() async throws {
        let called = try CommandLineTool.run("call", "/ip4/127.0.0.1/tcp/1", "A.b", "--data", "x", "--file", "y")
        #expect(called.status == 64)
    }
}
