import ArgumentParser
import Martlet
import MartletCore

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Tell how this node can be reached, and why a peer is not reached directly.",
        discussion: """
            Asks the running node; where none runs, a temporary one looks around for a few seconds: it learns most with \
            --relay or --peer, for it is peers that say where they see it. With a peer, tells the paths to it, and what \
            became of attempts to get a direct one.
            """)

    @Argument(
        help: ArgumentHelp("A peer id, or an address to find the peer at.", valueName: "peer|multiaddr"),
        transform: { text in
            _ = try parsePeerTarget(text)
            return text
        })
    var target: String?

    @Option(
        help: ArgumentHelp(
            "A peer that the temporary node connects to; may be given several times.", valueName: "multiaddr"),
        transform: parseMultiaddr)
    var peer: [Multiaddr] = []

    @Option(help: ArgumentHelp("How long to wait for what is not known yet.", valueName: "seconds"))
    var timeout = 10.0

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var reach: ReachOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard timeout >= 0, timeout <= 300 else { throw ValidationError("--timeout is at most 300 seconds.") }
    }

    func run() async throws {
        let request = ControlRequest.doctor(target: target, patience: timeout)
        let answer: ControlAnswer
        if let client = try ControlClient(try data.resolve()) {
            answer = try client.ask(request)
        } else {
            answer = try await NodeAccess.withTemporaryNode(node, adjust) { [peer] node in
                // It learns from them; one that is not there is no reason not to look around.
                for address in peer { _ = try? await node.connect(to: address) }
                return try await NodeOperations(node: node).perform(request) { _ in }
            }
        }
        guard case .doctor(let report) = answer else { throw ControlClient.misunderstanding }
        if output.json { Output.json(report) } else { DoctorText.lines(of: report).forEach { Output.line($0) } }
        // Scripts see by the status whether the peer was reached at all.
        if report.peer?.error != nil { throw ExitCode(ExitStatus.unreachable.rawValue) }
    }

    /// A node like any other: what it learns is what another would.
    private func adjust(_ configuration: inout NodeConfiguration) throws {
        try reach.apply(to: &configuration, targets: [target].compactMap(\.self))
        configuration.peers = peer
        configuration.mapsPorts = true
        if reach.listen.isEmpty { configuration.listenAddresses = try DefaultListenAddresses.at(port: 0) }
    }
}
