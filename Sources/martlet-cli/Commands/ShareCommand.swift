import ArgumentParser

struct ShareCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "share",
        abstract: "Share a file from where it lies, and print its CID.",
        discussion: """
            The running node reads the file once and remembers what is where in it; nothing is copied. A file that \
            changes later is no longer served.
            """)

    @Argument(help: ArgumentHelp("The file to share.", valueName: "file"), completion: .file())
    var file: String

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let client = try ControlClient.required(try data.resolve())
        guard case .share(let report) = try client.ask(.share(path: Paths.absolute(file))) else {
            throw ControlClient.misunderstanding
        }
        if output.json { Output.json(report) } else { Output.line(report.cid) }
    }
}
