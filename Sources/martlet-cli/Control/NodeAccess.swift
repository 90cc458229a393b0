import Martlet

/// Finds the node that a command works with.
enum NodeAccess {
    /// Asks the node running with `directory`; where none runs, starts one with a fresh identity for this request alone.
    static func perform(
        _ request: ControlRequest, in directory: DataDirectory, options: NodeOptions, reach: ReachOptions,
        targets: [String], report: @escaping NodeOperations.Report
    ) async throws -> ControlAnswer {
        if let client = try ControlClient(directory) { return try client.ask(request, report: report) }
        return try await withTemporaryNode(options, { try reach.apply(to: &$0, targets: targets) }) { node in
            try await NodeOperations(node: node).perform(request, report: report)
        }
    }

    /// Runs `body` with a node that keeps nothing and, unless `adjust` says otherwise, listens nowhere.
    static func withTemporaryNode<T: Sendable>(
        _ options: NodeOptions, _ adjust: (inout NodeConfiguration) throws -> Void = { _ in },
        _ body: @Sendable (Node) async throws -> T
    ) async throws -> T {
        var configuration = NodeConfiguration()
        configuration.loopCount = 1
        options.apply(to: &configuration)
        configuration.mapsPorts = false
        try adjust(&configuration)
        let node = try await Node.start(configuration)
        do {
            let result = try await body(node)
            await node.stop()
            return result
        } catch {
            await node.stop()
            throw error
        }
    }
}
