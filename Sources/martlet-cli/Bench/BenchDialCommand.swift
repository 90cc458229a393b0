import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity

struct BenchDialCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dial",
        abstract: "Measure a dial up to the first usable stream.",
        discussion: """
            Each time runs from the request to connect until one byte came back on a stream whose protocol both sides \
            agreed on; the connection is closed before the next.
            """)

    @OptionGroup var bench: BenchOptions

    @Option(help: ArgumentHelp("How many times.", valueName: "n"))
    var count = 100

    private struct Report: Encodable {
        let count: Int
        let p50Us: Double
        let p99Us: Double
        let minUs: Double
        let maxUs: Double
        let cpuS: Double
    }

    func validate() throws {
        guard (1...1_000_000).contains(count) else { throw ValidationError("--count is 1 to 1000000.") }
    }

    func run() async throws {
        let times = try await NodeAccess.withTemporaryNode(bench.node, { $0.loopCount = bench.loops }) {
            [address = bench.address, count] node in
            try await Task(executorPreference: node.executor) {
                var times: [Double] = []
                for _ in 0..<count { times.append(try await Self.dial(address, with: node)) }
                return times
            }.value
        }
        let sorted = Measurements(microseconds: times.map { Text.rounded($0) })
        let report = Report(
            count: count, p50Us: sorted.percentile(0.5), p99Us: sorted.percentile(0.99), minUs: sorted.minimum,
            maxUs: sorted.maximum, cpuS: Text.rounded(ProcessUsage.cpuSeconds, 4))
        if bench.output.json { return Output.json(report) }
        Output.line(
            "\(count) dials to a usable stream: median \(Text.fixed(report.p50Us / 1000, 3)) ms, "
                + "p99 \(Text.fixed(report.p99Us / 1000, 3)) ms, \(Text.fixed(report.cpuS, 2)) s of processor here")
    }

    private static func dial(_ address: Multiaddr, with node: Node) async throws -> Double {
        let begin = Instant.systemNow()
        let peer = try await node.connect(to: address)
        let stream = try await node.openStream(to: peer, protocol: BenchProtocol.echo)
        try await stream.write([0x6D])
        guard let answer = try await stream.read(), answer.count == 1 else {
            throw Failure("the server ended the stream")
        }
        let time = (Instant.systemNow() - begin).microseconds
        try await stream.finish()
        try await node.disconnect(from: peer)
        while try await !node.peers().isEmpty { try await Task.sleep(for: .milliseconds(1)) }
        return time
    }
}
