import ArgumentParser
import MartletCore
import MartletIdentity
import MartletSimulation

struct SimulateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run nodes in a virtual network on a virtual clock.",
        subcommands: [SimulatePingCommand.self, SimulatePunchCommand.self])
}

struct SimulatePingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Nodes connect to each other and ping all their peers.",
        discussion: """
            Every node is the production engine, with its handshakes, identify, keep-alives and pings; only clock, wire \
            and randomness are virtual. The same arguments print the same event log, byte for byte, and a summary as the \
            last line. What differs from run to run (processor seconds, memory) goes to standard error.
            """)

    @Option(help: ArgumentHelp("How many nodes.", valueName: "n"))
    var nodes: Int

    @Option(help: ArgumentHelp("Everything random follows from it.", valueName: "s"))
    var seed: UInt64 = 1

    @Option(
        help: ArgumentHelp("Connections of a node, at most one with each other; half of them it dials.", valueName: "n")
    )
    var connections = 20

    @Option(help: ArgumentHelp("Virtual seconds of keep-alives and pings.", valueName: "n"))
    var seconds = 60

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (2...100_000).contains(nodes) else { throw ValidationError("--nodes is 2 to 100000.") }
        guard (1...86_400).contains(seconds) else { throw ValidationError("--seconds is 1 to 86400.") }
        guard (2...1000).contains(connections), connections % 2 == 0 else {
            throw ValidationError("--connections is an even number from 2 to 1000.")
        }
    }

    private struct Summary: Encodable {
        let nodes: Int
        let seed: UInt64
        let connectionEnds: Int
        let events: UInt64
        let pings: Int
        let failures: Int
        let sha256: String
    }

    private struct Cost: Encodable {
        let cpuS: Double
        /// Until all connections were made and all peers identified.
        let setUpCpuS: Double
        /// From then on.
        let pingCpuS: Double
        let peakResidentMb: Double
    }

    func run() async throws {
        let log = BufferedOutput(isEnabled: output.json)
        let began = ProcessUsage.cpuSeconds
        var scenario = PingScenario(nodeCount: nodes, seed: seed)
        scenario.connectionsPerNode = connections
        scenario.duration = .seconds(seconds)
        var connected = began
        let result = scenario.run(log: log.write) { connected = ProcessUsage.cpuSeconds }
        let ended = ProcessUsage.cpuSeconds
        log.flush()
        let summary = Summary(
            nodes: nodes, seed: seed, connectionEnds: result.connectionEnds, events: result.eventCount,
            pings: result.pingCount, failures: result.failureCount, sha256: result.logDigest)
        let cost = Cost(
            cpuS: Text.rounded(ended - began), setUpCpuS: Text.rounded(connected - began),
            pingCpuS: Text.rounded(ended - connected),
            peakResidentMb: Text.rounded(Double(ProcessUsage.peakResidentBytes) / 1e6, 1))
        if output.json {
            Output.json(summary)
            Output.write((try JSON.encode(cost)) + [0x0A], to: 2)
        } else {
            Output.line(
                "\(summary.nodes) nodes, \(summary.connectionEnds) connection ends, \(summary.events) events, "
                    + "\(summary.pings) pings, \(summary.failures) failures")
            Output.line("event log sha256 \(summary.sha256)")
            Output.progress(
                "\(Text.fixed(cost.setUpCpuS, 1)) s of processor to connect, \(Text.fixed(cost.pingCpuS, 1)) s for "
                    + "\(seconds) virtual seconds, \(Text.fixed(cost.peakResidentMb, 0)) MB at most\n")
        }
        guard result.failureCount == 0 else {
            throw Failure("\(result.failureCount) things in the simulated network failed that should not have")
        }
    }
}

/// Standard output in large pieces.
private final class BufferedOutput {
    private static let size = 256 << 10
    private let isEnabled: Bool
    private var buffer: [UInt8] = []

    init(isEnabled: Bool) {
        self.isEnabled = isEnabled
        buffer.reserveCapacity(Self.size + 4096)
    }

    func write(_ bytes: [UInt8]) {
        guard isEnabled else { return }
        buffer += bytes
        if buffer.count >= Self.size { flush() }
    }

    func flush() {
        Output.write(buffer, to: 1)
        buffer.removeAll(keepingCapacity: true)
    }
}
