import ArgumentParser

struct PeersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peers", abstract: "List the peers that the running node is connected to.")

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let client = try ControlClient.required(try data.resolve())
        guard case .peers(let report) = try client.ask(.peers) else { throw ControlClient.misunderstanding }
        if output.json { return Output.json(report) }
        for peer in report.peers {
            let roundTrip = peer.rttUs.map { Text.roundTrip(microseconds: $0) } ?? "-"
            Output.line(
                [
                    peer.peer, Text.pad(peer.direction, to: 8), Text.pad(peer.path, to: 7),
                    Text.pad(peer.transport ?? "-", to: 4), Text.pad(roundTrip, to: 10),
                    "in \(Text.speed(peer.inBytesPerS)) out \(Text.speed(peer.outBytesPerS))", peer.address,
                    peer.agent ?? "",
                ].joined(separator: "  "))
        }
    }
}
