import ArgumentParser
import Martlet
import MartletCore

struct BenchPingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping", abstract: "Send a message back and forth on one stream, one at a time.")

    @OptionGroup var bench: BenchOptions

    @Option(help: ArgumentHelp("Bytes of the message.", valueName: "n"))
    var size = 128

    @Option(help: ArgumentHelp("How many times.", valueName: "n"))
    var count = 10_000

    @Option(help: ArgumentHelp("Round trips before the measured ones.", valueName: "n"))
    var warmUp = 200

    private struct Report: Encodable {
        let size: Int
        let count: Int
        let p50Us: Double
        let p90Us: Double
        let p99Us: Double
        let minUs: Double
        let maxUs: Double
        let cpuS: Double
    }

    func validate() throws {
        guard (1...16 << 20).contains(size) else { throw ValidationError("--size is 1 to 16777216.") }
        guard (1...100_000_000).contains(count) else { throw ValidationError("--count is 1 to 100000000.") }
        guard (0...1_000_000).contains(warmUp) else { throw ValidationError("--warm-up is 0 to 1000000.") }
    }

    func run() async throws {
        let times = try await bench.run { [size, count, warmUp] node, peer in
            // On the thread that reads the socket: no change of thread between the answer and the next message.
            try await Task(executorPreference: node.executor) {
                let stream = try await node.openStream(to: peer, protocol: BenchProtocol.echo)
                _ = try await Self.roundTrips(warmUp, size, on: stream)
                let times = try await Self.roundTrips(count, size, on: stream)
                try await stream.finish()
                return times
            }.value
        }
        let report = Report(
            size: size, count: count, p50Us: Text.rounded(times.percentile(0.5)),
            p90Us: Text.rounded(times.percentile(0.9)),
            p99Us: Text.rounded(times.percentile(0.99)), minUs: Text.rounded(times.minimum),
            maxUs: Text.rounded(times.maximum),
            cpuS: Text.rounded(ProcessUsage.cpuSeconds, 4))
        if bench.output.json { return Output.json(report) }
        Output.line(
            "\(count) round trips of \(size) bytes: median \(Text.fixed(report.p50Us, 1)) µs, "
                + "p99 \(Text.fixed(report.p99Us, 1)) µs, \(Text.fixed(report.cpuS, 2)) s of processor here")
    }

    private static func roundTrips(_ count: Int, _ size: Int, on stream: MeshStream) async throws -> LatencyHistogram {
        let message = Bytes(count: size) { $0.initializeMemory(as: UInt8.self, repeating: 0x6D) }
        var times = LatencyHistogram()
        for _ in 0..<count {
            let begin = Instant.systemNow()
            try await stream.write(message)
            var received = 0
            while received < size {
                guard let bytes = try await stream.read() else { throw Failure("the server ended the stream") }
                received += bytes.count
            }
            guard received == size else { throw Failure("\(received) bytes came back instead of \(size)") }
            times.add(Instant.systemNow() - begin)
        }
        return times
    }
}
