import ArgumentParser
import Martlet
import MartletCore

struct BenchServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve measurements until interrupted.",
        discussion: """
            The first line on standard output is the full address for the other side; with --share, the second is the \
            CID of the file.
            """)

    @Option(
        help: ArgumentHelp("The address to accept connections at.", valueName: "multiaddr"), transform: parseMultiaddr)
    var listen: Multiaddr

    @Option(
        help: ArgumentHelp(
            "A relay to be reached through: the address printed is the one there. With --listen on a Unix socket there is no other way.",
            valueName: "multiaddr"), transform: parseMultiaddr)
    var relay: Multiaddr?

    @Option(help: ArgumentHelp("A file to serve to `bench fetch`.", valueName: "file"), completion: .file())
    var share: String?

    @Option(help: "Event loops of this process. (default: one for each core, at most 8)")
    var loops: Int?

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard loops.map({ (1...64).contains($0) }) ?? true else { throw ValidationError("--loops is 1 to 64.") }
    }

    /// How long a relay has to grant a reservation.
    private static let relayWait = Duration.seconds(10)

    private func addresses(of server: Node) async throws -> [Multiaddr] {
        guard relay != nil else { return server.listenAddresses }
        let deadline = Instant.systemNow() + Self.relayWait
        while Instant.systemNow() < deadline {
            let relayed = try await server.announcedAddresses().filter(\.isCircuit)
            if !relayed.isEmpty { return relayed }
            try await Task.sleep(for: .milliseconds(20))
        }
        await server.stop()
        throw Failure("the relay has granted no reservation", exitStatus: .unreachable)
    }

    private struct Line: Encodable {
        var address: String?
        var cid: String?
    }

    func run() async throws {
        let signals = try Signals()
        var configuration = NodeConfiguration()
        configuration.listenAddresses = [listen]
        configuration.servesPerf = true
        configuration.loopCount = loops
        configuration.relays = relay.map { [$0] } ?? []
        // What is measured is the relay.
        configuration.punchesHoles = relay == nil
        node.apply(to: &configuration)
        let server = try await Node.start(configuration)
        server.handle(BenchProtocol.echo) { stream in
            while let bytes = try await stream.read() { try await stream.write(bytes) }
        }
        BenchRPC.register(on: server)
        for address in try await addresses(of: server).prefix(1) {
            if output.json { Output.json(Line(address: "\(address)")) } else { Output.line("\(address)") }
        }
        do {
            if let share {
                let cid = "\(try await server.share(Paths.absolute(share)).root)"
                if output.json { Output.json(Line(cid: cid)) } else { Output.line(cid) }
            }
        } catch {
            await server.stop()
            throw error
        }
        _ = await signals.next()
        await server.stop()
    }
}
