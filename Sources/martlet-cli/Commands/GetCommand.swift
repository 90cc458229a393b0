import ArgumentParser
import MartletCore

struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Fetch a file by its CID, verified.",
        discussion: """
            Every piece is checked against the CID before it counts. An interrupted fetch goes on where it stopped when \
            the same command is given again. The running node fetches, from the peers given or, when none is, from those it is \
            connected to; where none runs, a temporary one does.
            """)

    @Argument(help: ArgumentHelp("What `share` printed.", valueName: "cid"), transform: parseCID)
    var cid: CID

    @Option(
        name: [.short, .long], help: ArgumentHelp("Where to put the file.", valueName: "file"), completion: .file())
    var output: String

    @Option(
        help: ArgumentHelp("A peer that has it; may be given several times.", valueName: "multiaddr"),
        transform: parseMultiaddr)
    var from: [Multiaddr] = []

    @Flag(help: "Replace the file when there is one.")
    var replace = false

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var reach: ReachOptions
    @OptionGroup var format: OutputOptions

    func run() async throws {
        let display = ProgressDisplay(json: format.json)
        let request = ControlRequest.get(
            cid: "\(cid)", path: Paths.absolute(output), from: from.map { "\($0)" }, replacing: replace)
        let answer: ControlAnswer
        do {
            answer = try await NodeAccess.perform(
                request, in: try data.resolve(), options: node, reach: reach, targets: from.map { "\($0)" }
            ) { reply in
                if case .progress(let progress) = reply { display.show(progress) }
            }
        } catch {
            display.end()
            throw error
        }
        display.end()
        guard case .transfer(let report) = answer else { throw ControlClient.misunderstanding }
        if format.json { return Output.json(report) }
        Output.line(summary(report))
        for source in report.sources {
            let corrupt = source.corruptLeaves > 0 ? ", and \(source.corruptLeaves) corrupt pieces, not used" : ""
            Output.line("  \(Text.bytes(source.bytes)) from \(source.peer)\(corrupt)")
        }
    }

    private func summary(_ report: TransferReport) -> String {
        let resumed = report.resumedBytes > 0 ? ", \(Text.bytes(report.resumedBytes)) of it from before" : ""
        return "\(report.path): \(Text.bytes(report.bytes)) verified\(resumed), "
            + "\(Text.fixed(report.seconds, 2)) s, \(Text.speed(report.mbPerS * 1e6))"
    }
}
