import ArgumentParser
import Martlet
import MartletCore

struct BenchFetchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fetch",
        abstract: "Fetch a file, verified and on disk.",
        discussion: "The time includes the dial and ends when the file is complete at its place.")

    @OptionGroup var bench: BenchOptions

    @Argument(help: ArgumentHelp("The CID that `bench serve --share` printed.", valueName: "cid"), transform: parseCID)
    var cid: CID

    @Option(
        name: [.short, .long], help: ArgumentHelp("Where to put the file.", valueName: "file"), completion: .file())
    var output: String

    private struct Report: Encodable {
        let bytes: Int
        let resumedBytes: Int
        let seconds: Double
        let mbPerS: Double
        let cpuS: Double
    }

    func run() async throws {
        let request = ControlRequest.get(
            cid: "\(cid)", path: Paths.absolute(output), from: ["\(bench.address)"], replacing: true)
        let answer = try await NodeAccess.withTemporaryNode(bench.node, { $0.loopCount = bench.loops }) { node in
            try await NodeOperations(node: node).perform(request) { _ in }
        }
        guard case .transfer(let transfer) = answer else { throw ControlClient.misunderstanding }
        let report = Report(
            bytes: transfer.bytes, resumedBytes: transfer.resumedBytes, seconds: Text.rounded(transfer.seconds, 6),
            mbPerS: transfer.mbPerS, cpuS: Text.rounded(ProcessUsage.cpuSeconds, 4))
        if bench.output.json { return Output.json(report) }
        Output.line(
            "\(Text.bytes(report.bytes)) in \(Text.fixed(report.seconds, 3)) s: \(Text.fixed(report.mbPerS, 1)) MB/s, "
                + "\(Text.fixed(report.cpuS, 2)) s of processor here")
    }
}
