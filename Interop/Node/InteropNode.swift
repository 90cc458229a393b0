import ArgumentParser
import Martlet
import MartletCore
import MartletQUIC

#if canImport(Glibc)
    import Glibc
#endif

/// Martlet as one of the programs that Interop/README.md describes.
@main
struct InteropNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "interop-node", abstract: "Martlet's side of the interoperability tests.",
        subcommands: [Listen.self, Dial.self])

    struct Listen: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Serve until standard input ends.")

        @Option var listen = ["/ip4/127.0.0.1/tcp/0"]
        @Option var relay: [String] = []
        @Flag(help: "Relay for others.") var relays = false
        @Option var network: String?
        @Option(help: "Where the node's key is kept.") var dataDir: String?
        @Flag(help: "Have every QUIC client prove its address first.") var asksForAddresses = false

        func run() async throws {
            let node = try await Node.start {
                $0.network = network
                $0.dataDirectory = dataDir
                if asksForAddresses { $0.quic.retryThreshold = 0 }
                if relays { $0.relay = RelayConfiguration() }
                $0.listenAddresses = try listen.map { try Multiaddr($0) }
                $0.relays = try relay.map { try Multiaddr($0) }
            }
            await Listening(node: node).run()
            await node.stop()
        }
    }

    struct Dial: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Run one scenario against a listening peer.")

        @Argument var address: String
        @Option var scenario: String
        @Option var listen: [String] = []
        @Option var bytes = 1 << 20
        @Option var count = 10
        @Option var network: String?

        func run() async throws {
            let holds = await report(scenario) {
                let node = try await Node.start {
                    $0.network = network
                    $0.listenAddresses = try listen.map { try Multiaddr($0) }
                }
                node.lattica.enable()
                let peer = try await node.connect(to: try Multiaddr(address))
                let fields = try await Dialing(node: node, peer: peer, byteCount: bytes, count: count).run(scenario)
                await node.stop()
                return fields
            }
            if !holds { throw ExitCode.failure }
        }
    }
}

/// Runs a scenario and prints its verdict as one line; true if it held.
@discardableResult
func report(_ scenario: String, _ body: () async throws -> [(String, JSON)]) async -> Bool {
    let clock = ContinuousClock()
    let began = clock.now
    var fields: [(String, JSON)] = [("scenario", .string(scenario))]
    var holds = true
    do {
        fields += try await body()
    } catch {
        holds = false
        fields.append(("error", .string("\(error)")))
    }
    fields.append(("ok", .boolean(holds)))
    fields.append(("seconds", .number((clock.now - began) / .seconds(1))))
    say(fields)
    return holds
}

/// One line on standard output, at once even when that is a pipe.
func say(_ fields: [(String, JSON)]) {
    let line = Array((JSON.object(fields) + "\n").utf8)
    var written = 0
    while written < line.count {
        let count = line.withUnsafeBytes { write(1, $0.baseAddress?.advanced(by: written), line.count - written) }
        guard count > 0 else { return }
        written += count
    }
}
