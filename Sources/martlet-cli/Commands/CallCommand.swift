import ArgumentParser
import FoundationEssentials
import Martlet

struct CallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "call",
        abstract: "Call a method of a peer and print its answer.",
        discussion: """
            The running node calls; where none runs, a temporary one does. The answer's bytes go to standard output as they \
            are, with a line break when they are text. A method that answers with a stream is an error.
            """)

    @Argument(
        help: ArgumentHelp("A peer id, or an address to find the peer at.", valueName: "peer|multiaddr"),
        transform: { text in
            _ = try parsePeerTarget(text)
            return text
        })
    var target: String

    @Argument(help: ArgumentHelp("What to call; `martlet services` lists it.", valueName: "service.method"))
    var method: String

    @Option(help: ArgumentHelp("Text to send. (default: nothing)", valueName: "text"))
    var data: String?

    @Option(help: ArgumentHelp("A file to send.", valueName: "file"), completion: .file())
    var file: String?

    @Option(help: ArgumentHelp("How long to wait for the answer.", valueName: "seconds"))
    var deadline = 30.0

    @OptionGroup var directory: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var reach: ReachOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard data == nil || file == nil else { throw ValidationError("--data and --file exclude each other.") }
        guard deadline > 0, deadline <= 86_400 else { throw ValidationError("--deadline is at most 86400 seconds.") }
    }

    func run() async throws {
        let request = ControlRequest.call(
            target: target, method: method, text: data, file: file.map { Paths.absolute($0) }, deadline: deadline)
        let answer = try await NodeAccess.perform(
            request, in: try directory.resolve(), options: node, reach: reach, targets: [target]
        ) { _ in }
        guard case .call(let report) = answer else { throw ControlClient.misunderstanding }
        if output.json { return Output.json(report) }
        if let text = report.text { return Output.line(text) }
        Output.write(Array(report.base64.flatMap { Data(base64Encoded: $0) } ?? Data()), to: 1)
    }
}
