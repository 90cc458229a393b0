import ArgumentParser

struct SharesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shares", abstract: "List the files that the running node shares.")

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let client = try ControlClient.required(try data.resolve())
        guard case .shares(let report) = try client.ask(.shares) else { throw ControlClient.misunderstanding }
        if output.json { return Output.json(report) }
        for share in report.shares {
            let changed = share.isCurrent ? "" : "  (changed since; not served)"
            Output.line("\(share.cid)  \(Text.pad(Text.bytes(share.bytes), to: 9))  \(share.path)\(changed)")
        }
    }
}
