import ArgumentParser

struct PingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Measure the round trip to a peer.",
        discussion: """
            The running node pings; where none runs, a temporary one does. With an address that ends in /p2p/<id>, \
            anybody else who answers there is an error. Behind a relay is a peer with an address such as \
            <relay>/p2p-circuit/p2p/<id>; --until direct waits for a connection without the relay.
            """)

    @Argument(
        help: ArgumentHelp("A peer id, or an address to find the peer at.", valueName: "peer|multiaddr"),
        transform: { text in
            _ = try parsePeerTarget(text)
            return text
        })
    var target: String

    @Option(name: [.short, .long], help: "How many times. (default: 4, with --until 1)")
    var count: Int?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("Seconds between pings; 0 for none. (default: 1, with --until 0.1)", valueName: "seconds"))
    var interval: Double?

    @Option(help: ArgumentHelp("Ping until the path is `direct`, or within the local network.", valueName: "path"))
    var until: WantedPath?

    @Option(help: ArgumentHelp("How long --until waits.", valueName: "seconds"))
    var timeout = 10.0

    enum WantedPath: String, ExpressibleByArgument, CaseIterable {
        case direct
    }

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var reach: ReachOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...NodeOperations.pingLimit).contains(count ?? 1) else {
            throw ValidationError("--count is 1 to \(NodeOperations.pingLimit).")
        }
        guard (0...3600).contains(interval ?? 0) else { throw ValidationError("--interval is 0 to 3600 seconds.") }
        guard timeout > 0, timeout <= 3600 else { throw ValidationError("--timeout is at most 3600 seconds.") }
    }

    func run() async throws {
        let json = output.json
        let request = ControlRequest.ping(
            target: target, count: count ?? (until == nil ? 4 : 1), interval: interval ?? (until == nil ? 1 : 0.1),
            untilDirectWithin: until == nil ? nil : timeout)
        let answer = try await NodeAccess.perform(
            request, in: try data.resolve(), options: node, reach: reach, targets: [target]
        ) { reply in
            guard case .roundTrip(let ping) = reply else { return }
            if json { return Output.json(ping) }
            let path = Self.text(ping.path, ping.transport)
            Output.line("\(ping.peer): ping \(ping.sequence), \(Text.roundTrip(microseconds: ping.rttUs)), \(path)")
        }
        guard case .ping(let report) = answer else { throw ControlClient.misunderstanding }
        if json { Output.json(report) } else { Output.line(Self.summary(report)) }
        guard let error = report.error else { return }
        Output.error(error.message)
        throw ExitCode(error.exitStatus.rawValue)
    }

    private static func text(_ path: String?, _ transport: String?) -> String {
        "\(path ?? "no path") (\(transport ?? "-"))"
    }

    private static func summary(_ report: PingReport) -> String {
        let times = [report.minUs, report.p50Us, report.p99Us, report.maxUs].map { Text.fixed($0 / 1000, 3) }
        return "\(report.count) pings; least/median/p99/most \(times.joined(separator: "/")) ms; "
            + text(report.path, report.transport)
    }
}
