import ArgumentParser
import Martlet

struct ServicesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "services",
        abstract: "List the methods that a peer offers.",
        discussion: "The running node asks; where none runs, a temporary one does.")

    @Argument(
        help: ArgumentHelp("A peer id, or an address to find the peer at.", valueName: "peer|multiaddr"),
        transform: { text in
            _ = try parsePeerTarget(text)
            return text
        })
    var target: String

    @OptionGroup var directory: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var reach: ReachOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let answer = try await NodeAccess.perform(
            .services(target: target), in: try directory.resolve(), options: node, reach: reach, targets: [target]
        ) { _ in }
        guard case .services(let report) = answer else { throw ControlClient.misunderstanding }
        if output.json { return Output.json(report) }
        for method in report.methods { Output.line("\(method.path)  \(method.kind)") }
    }
}
