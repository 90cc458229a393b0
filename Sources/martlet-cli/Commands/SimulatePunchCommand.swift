import ArgumentParser
import MartletCore
import MartletSimulation

struct SimulatePunchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "punch",
        abstract: "Two nodes behind simulated NATs look for a direct path.",
        discussion: """
            Every pair of the kinds of NAT named is tried with as many seeds as asked, over the machines of a real node. Both \
            nodes know each other through a relay; lines take 20 ms one way. UDP only. The same arguments print the same.
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Dialer and listener, as port-restricted,symmetric. All kinds if none.", valueName: "a,b"))
    var pairs: [String] = []

    @Option(help: ArgumentHelp("Runs of each pair.", valueName: "n"))
    var seeds = 20

    @Option(help: ArgumentHelp("Packets lost of a hundred.", valueName: "n"))
    var loss = 0

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...100_000).contains(seeds) else { throw ValidationError("--seeds is 1 to 100000.") }
        guard (0...90).contains(loss) else { throw ValidationError("--loss is 0 to 90.") }
        _ = try wanted()
    }

    private func wanted() throws -> [(String, String)] {
        let names = NATSpecification.kinds.map(\.name)
        guard !pairs.isEmpty else { return names.flatMap { left in names.map { (left, $0) } } }
        return try pairs.map { pair in
            let parts = pair.split(separator: ",").map(String.init)
            guard parts.count == 2, parts.allSatisfy({ names.contains($0) }) else {
                throw ValidationError("\(pair) is no pair of \(names.joined(separator: ", ")).")
            }
            return (parts[0], parts[1])
        }
    }

    private struct Line: Encodable {
        let dialer: String
        let listener: String
        let runs: Int
        let direct: Int
        let medianMs: Double?
        let worstMs: Double?
    }

    func run() async throws {
        for (left, right) in try wanted() {
            guard let dialer = NATSpecification.named(left), let listener = NATSpecification.named(right) else {
                continue
            }
            var durations: [Double] = []
            for seed in 1...UInt64(seeds) {
                var scenario = PunchScenario(dialer: dialer, listener: listener, seed: seed)
                scenario.loss = Double(loss) / 100
                if let duration = scenario.run().duration { durations.append(duration.milliseconds) }
            }
            durations.sort()
            let line = Line(
                dialer: left, listener: right, runs: seeds, direct: durations.count,
                medianMs: durations.isEmpty ? nil : Text.rounded(durations[durations.count / 2], 1),
                worstMs: durations.last.map { Text.rounded($0, 1) })
            if output.json { Output.json(line) } else { print(line) }
        }
    }

    private func print(_ line: Line) {
        let times = line.medianMs.map { median in
            ", median \(Text.fixed(median, 0)) ms, worst \(Text.fixed(line.worstMs ?? median, 0)) ms"
        }
        Output.line("\(line.dialer) → \(line.listener): direct in \(line.direct) of \(line.runs) runs\(times ?? "")")
    }
}
