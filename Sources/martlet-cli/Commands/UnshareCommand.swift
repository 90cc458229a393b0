import ArgumentParser
import MartletCore

struct UnshareCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unshare", abstract: "Share a file no longer. The file itself stays.")

    @Argument(help: ArgumentHelp("What `share` printed.", valueName: "cid"), transform: parseCID)
    var cid: CID

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var output: OutputOptions

    private struct Report: Encodable {
        let cid: String
    }

    func run() async throws {
        let client = try ControlClient.required(try data.resolve())
        guard case .nothing = try client.ask(.unshare(cid: "\(cid)")) else { throw ControlClient.misunderstanding }
        if output.json { Output.json(Report(cid: "\(cid)")) }
    }
}
