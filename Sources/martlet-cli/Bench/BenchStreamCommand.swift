import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity

struct BenchStreamCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stream",
        abstract: "Move bytes over one stream, with /perf/1.0.0.",
        discussion: """
            The time runs from the first byte to the other side's end of stream, which comes after it has read everything.
            """)

    @OptionGroup var bench: BenchOptions

    @Option(help: ArgumentHelp("How many bytes.", valueName: "n"))
    var bytes: UInt64 = 1 << 30

    @Flag(help: "Receive them instead of sending them.")
    var download = false

    private struct Report: Encodable {
        let bytes: UInt64
        let direction: String
        let cipher: String
        let seconds: Double
        let mbPerS: Double
        let cpuS: Double
    }

    func validate() throws {
        guard bytes > 0, bytes <= 1 << 50 else { throw ValidationError("--bytes is 1 to 2^50.") }
    }

    func run() async throws {
        let seconds = try await bench.run { [bytes, download] node, peer in
            // Beside the network, as a program that wants throughput would run it.
            try await Task(executorPreference: node.executor) {
                let stream = try await node.openStream(to: peer, protocol: BenchProtocol.perf)
                return download
                    ? try await Self.receive(bytes, on: stream) : try await Self.send(bytes, on: stream)
            }.value
        }
        let report = Report(
            bytes: bytes, direction: download ? "download" : "upload", cipher: bench.node.cipher.rawValue,
            seconds: Text.rounded(seconds, 6), mbPerS: Text.rounded(Double(bytes) / seconds / 1e6),
            cpuS: Text.rounded(ProcessUsage.cpuSeconds, 4))
        if bench.output.json { return Output.json(report) }
        Output.line(
            "\(Text.bytes(Int(bytes))) in \(Text.fixed(seconds, 3)) s: \(Text.fixed(report.mbPerS, 1)) MB/s, "
                + "\(Text.fixed(report.cpuS, 2)) s of processor here")
    }

    private static let pieceSize = 256 << 10

    private static func send(_ count: UInt64, on stream: MeshStream) async throws -> Double {
        let piece = Bytes(count: pieceSize) { $0.initializeMemory(as: UInt8.self, repeating: 0) }
        let begin = Instant.systemNow()
        try await stream.write(header(0))
        var left = count
        while left > 0 {
            let n = min(left, UInt64(pieceSize))
            try await stream.write(piece.prefix(Int(n)))
            left -= n
        }
        try await stream.finish()
        while let extra = try await stream.read() {
            throw Failure("the server sent \(extra.count) bytes that were not asked for")
        }
        return (Instant.systemNow() - begin).secondsAsDouble
    }

    private static func receive(_ count: UInt64, on stream: MeshStream) async throws -> Double {
        let begin = Instant.systemNow()
        try await stream.write(header(count))
        try await stream.finish()
        var received: UInt64 = 0
        while let bytes = try await stream.read() { received += UInt64(bytes.count) }
        guard received == count else { throw Failure("\(received) bytes came instead of \(count)") }
        return (Instant.systemNow() - begin).secondsAsDouble
    }

    /// The number of bytes wanted back.
    private static func header(_ count: UInt64) -> Bytes {
        Bytes(withUnsafeBytes(of: count.bigEndian) { Array($0) })
    }
}
