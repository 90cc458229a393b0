import Testing

@Suite struct SimulateCommandTests {
    @Test func theSameSeedPrintsTheSameLog() async throws {
        try await onThread {
            let arguments = [
                "simulate", "ping", "--nodes", "12", "--connections", "4", "--seconds", "20", "--json", "--seed",
            ]
            let first = try RunningTool(arguments + ["7"]).finish()
            let second = try RunningTool(arguments + ["7"]).finish()
            let other = try RunningTool(arguments + ["8"]).finish()
            #expect(first.status == 0)
            #expect(first.output == second.output)
            #expect(first.output != other.output)
            let summary = try #require(first.lines.last)
            #expect(summary.contains("\"connection_ends\":48") && summary.contains("\"sha256\":\""))
        }
    }

    @Test func twoNodesAreEnough() async throws {
        try await onThread {
            let outcome = try CommandLineTool.run("simulate", "ping", "--nodes", "2", "--seconds", "1", "--json")
            #expect(outcome.status == 0)
            #expect(outcome.lines.last?.contains("\"connection_ends\":2") == true)
        }
    }
}
