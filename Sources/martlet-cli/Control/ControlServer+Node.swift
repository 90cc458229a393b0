import Martlet

extension ControlServer {
    /// Answers the commands of this user about `node`, which is stopped when that cannot be done.
    static func start(for node: Node, in directory: DataDirectory) async throws -> ControlServer {
        let operations = NodeOperations(node: node)
        do {
            return try ControlServer(path: directory.controlSocket) { try await operations.perform($0, report: $1) }
        } catch {
            await node.stop()
            throw error
        }
    }
}
