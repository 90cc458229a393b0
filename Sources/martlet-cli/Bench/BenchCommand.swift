import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure what the mesh does between two machines.",
        discussion: "Run `martlet bench serve` on one of them and the others on the other. MB are 10^6 bytes.",
        subcommands: [
            BenchServeCommand.self, BenchStreamCommand.self, BenchPingCommand.self, BenchDialCommand.self,
            BenchFetchCommand.self, BenchRPCCommand.self, BenchReserveCommand.self,
        ])
}

/// What the measuring commands have in common.
struct BenchOptions: ParsableArguments {
    @Argument(
        help: ArgumentHelp("The address that `bench serve` printed.", valueName: "multiaddr"),
        transform: { text in
            let address = try parseMultiaddr(text)
            guard address.peerID != nil else {
                throw ValidationError("the address does not end in /p2p/<peer id>")
            }
            return address
        })
    var address: Multiaddr

    @Option(help: "Event loops of this process.")
    var loops = 1

    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...64).contains(loops) else { throw ValidationError("--loops is 1 to 64.") }
    }

    /// Runs `body` with a node of this process, connected to the server.
    func run<T: Sendable>(_ body: @Sendable (Node, PeerID) async throws -> T) async throws -> T {
        try await NodeAccess.withTemporaryNode(node, { $0.loopCount = loops }) { [address] node in
            try await body(node, try await node.connect(to: address))
        }
    }
}

/// Names that both sides of `bench` know.
enum BenchProtocol {
    /// What comes in goes out again, until the dialer finishes.
    static let echo = "/martlet/bench/echo/1"
    /// The libp2p perf protocol (specs/perf/perf.md).
    static let perf = "/perf/1.0.0"
}
