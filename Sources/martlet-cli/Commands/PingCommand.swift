import ArgumentParser

struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Measure the round trip to a peer.",
        discussion: """
            The running node pings; where none runs, a temporary one does. With an address that ends in /p2p/<id>, \
            anybody else who answers there is an error.
            """)

    @Argument(
        help: ArgumentHelp("A peer id, or an address to find the peer at.", valueName: "peer|multiaddr"),
        transform: { text in
            _ = try parsePeerTarget(text)
            return text
        })
    var target: String

    @Option(name: [.short, .long], help: "How many times.")
    var count = 4

    @Option(name: [.short, .long], help: ArgumentHelp("Seconds between pings; 0 for none.", valueName: "seconds"))
    var interval = 1.0

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...NodeOperations.pingLimit).contains(count) else {
            throw ValidationError("--count is 1 to \(NodeOperations.pingLimit).")
        }
        guard (0...3600).contains(interval) else { throw ValidationError("--interval is 0 to 3600 seconds.") }
    }

    func run() async throws {
        let json = output.json
        let answer = try await NodeAccess.perform(
            .ping(target: target, count: count, interval: interval), in: try data.resolve(), options: node
        ) { reply in
            guard case .roundTrip(let ping) = reply else { return }
            if json { return Output.json(ping) }
            Output.line("\(ping.peer): ping \(ping.sequence), \(Text.roundTrip(microseconds: ping.rttUs))")
        }
        guard case .ping(let report) = answer else { throw ControlClient.misunderstanding }
        if json { return Output.json(report) }
        let times = [report.minUs, report.p50Us, report.p99Us, report.maxUs].map { Text.fixed($0 / 1000, 3) }
        Output.line("\(report.count) pings; least/median/p99/most \(times.joined(separator: "/")) ms")
    }
}
