import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm

struct RelayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Run a relay and bootstrap node until it is interrupted.",
        discussion: """
            Peers that nobody can connect to reserve a place at the relay and are reached through it, at \
            <relay's address>/p2p/<relay>/p2p-circuit/p2p/<peer>. It speaks circuit relay v2 of libp2p. What goes through it \
            stays encrypted from end to end.

            Prints the addresses that others can reach it at, one a line, and then `ready`. SIGUSR1 prints a line with its \
            numbers. SIGINT and SIGTERM stop it in order, telling its clients, which look for another way at once.
            """)

    @Option(
        help: ArgumentHelp(
            "An address to accept connections at; may be given several times. (default: TCP and UDP port 4001 on every address)",
            valueName: "multiaddr"),
        transform: parseMultiaddr)
    var listen: [Multiaddr] = []

    @Option(
        help: ArgumentHelp(
            "A peer to stay connected to; may be given several times. With /p2p/<id> at the end, only that peer.",
            valueName: "multiaddr"),
        transform: parseMultiaddr)
    var peer: [Multiaddr] = []

    @Option(
        help: ArgumentHelp(
            "The address that others reach this relay at, when it is not one of its own: behind a load balancer or a forwarded port. May be given several times. It is told before those that the relay finds out itself.",
            valueName: "multiaddr"),
        transform: parseMultiaddr)
    var announce: [Multiaddr] = []

    @Option(help: "Event loops of the relay, each on a core. (default: one for each core, at most 8)")
    var loops: Int?

    @OptionGroup(title: "Limits") var limits: RelayLimitOptions
    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard loops.map({ (1...64).contains($0) }) ?? true else { throw ValidationError("--loops is 1 to 64.") }
    }

    func run() async throws {
        let directory = try data.resolve()
        let openFiles = OpenFiles.raiseLimit()
        if openFiles < limits.maxReservations + 256 {
            Output.error(
                "the system allows \(openFiles) open files: too few for \(limits.maxReservations) reservations over TCP"
            )
        }
        let isJSON = output.json
        let status = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let signals = try Signals(onUser: { status.continuation.yield() }) { [path = directory.controlSocket] in
            ControlSocket.remove(path)
        }
        try directory.create()
        let lock = try NodeLock(directory)
        let node = try await start(directory)
        let control = try await ControlServer.start(for: node, in: directory)
        let reports = Task {
            for await _ in status.stream { await Self.printStatus(of: node, isJSON: isJSON) }
        }
        announce(node)
        _ = await signals.next()
        status.continuation.finish()
        await reports.value
        control.stop()
        await node.stop()
        withExtendedLifetime(lock) {}
    }

    private func start(_ directory: DataDirectory) async throws -> Node {
        var configuration = NodeConfiguration()
        configuration.dataDirectory = directory.path
        configuration.identity = try KeyFile.loadOrCreate(at: directory.keyFile, passphrase: try passphrase.read())
        configuration.peers = peer
        configuration.announceAddresses = announce
        configuration.loopCount = loops
        configuration.relay = limits.configuration
        node.apply(to: &configuration)
        configuration.listenAddresses = listen.isEmpty ? try DefaultListenAddresses.at(port: 4001) : listen
        return try await Node.start(configuration)
    }

    // MARK: What is printed

    private struct Line: Encodable {
        let event: String
        let peer: String
        var address: String?
    }

    private struct StatusLine: Encodable {
        let event = "status"
        let peer: String
        let peers: Int
        let reservations: Int
        let circuits: Int
        let relayedBytes: Int
        let refusals: Int
        let circuitsCut: Int
    }

    private func announce(_ node: Node) {
        for address in node.listenAddresses {
            if output.json {
                Output.json(Line(event: "listening", peer: "\(node.peerID)", address: "\(address)"))
            } else {
                Output.line("\(address)")
            }
        }
        if output.json { Output.json(Line(event: "ready", peer: "\(node.peerID)")) } else { Output.line("ready") }
    }

    private static func printStatus(of node: Node, isJSON: Bool) async {
        guard let status = try? await node.relayStatus(), let peers = try? await node.peers() else { return }
        let count = Set(peers.map(\.peer)).count
        guard !isJSON else {
            return Output.json(
                StatusLine(
                    peer: "\(node.peerID)", peers: count, reservations: status.reservations,
                    circuits: status.circuits, relayedBytes: status.relayedByteCount, refusals: status.refusals,
                    circuitsCut: status.circuitsCut))
        }
        Output.line(
            "\(count) peers, \(status.reservations) reservations, \(status.circuits) circuits, "
                + "\(Text.bytes(status.relayedByteCount)) relayed, \(status.refusals) requests refused, "
                + "\(status.circuitsCut) circuits cut off")
    }
}

/// What a relay offers, and how much of it.
struct RelayLimitOptions: ParsableArguments {
    @Option(help: "Peers that may be reached through the relay at one time.")
    var maxReservations = 4096

    @Option(help: "Reservations from one range of addresses: an IPv4 /24, an IPv6 /48.")
    var maxReservationsPerRange = 64

    @Option(help: "Circuits open at one time.")
    var maxCircuits = 1024

    @Option(help: "Circuits from one peer, and to one peer.")
    var maxCircuitsPerPeer = 64

    @Option(help: ArgumentHelp("How long a reservation holds unless it is renewed.", valueName: "seconds"))
    var reservationSeconds = 3600

    @Option(help: ArgumentHelp("What a circuit may carry in each direction; 0 for any amount.", valueName: "size"))
    var circuitData = ByteCount(1 << 30)

    @Option(help: ArgumentHelp("How long a circuit may last; 0 for ever.", valueName: "seconds"))
    var circuitSeconds = 3600

    @Option(
        help: ArgumentHelp(
            "Bytes a second that a circuit carries in each direction; 0 for as many as come.", valueName: "size"))
    var circuitRate = ByteCount(0)

    @Option(
        help: ArgumentHelp(
            "Bytes a second that all circuits carry together; 0 for as many as come.", valueName: "size"))
    var totalRate = ByteCount(0)

    @Flag(help: "No limit on what a circuit carries or how long it lasts: for the relay of a private mesh.")
    var unlimited = false

    @Option(
        help: ArgumentHelp(
            "A peer that may use the relay; may be given several times. (default: everybody)", valueName: "peer"),
        transform: parsePeerID)
    var allow: [PeerID] = []

    func validate() throws {
        for (name, value) in [
            ("--max-reservations", maxReservations), ("--max-reservations-per-range", maxReservationsPerRange),
            ("--max-circuits", maxCircuits), ("--max-circuits-per-peer", maxCircuitsPerPeer),
        ] where !(0...1_000_000).contains(value) {
            throw ValidationError("\(name) is 0 to 1000000.")
        }
        guard (10...1_000_000).contains(reservationSeconds) else {
            throw ValidationError("--reservation-seconds is 10 to 1000000.")
        }
        guard (0...1_000_000_000).contains(circuitSeconds) else {
            throw ValidationError("--circuit-seconds is 0 to 1000000000.")
        }
    }

    var configuration: RelayConfiguration {
        var relay = RelayConfiguration()
        relay.maximumReservations = maxReservations
        relay.maximumReservationsPerRange = maxReservationsPerRange
        relay.maximumCircuits = maxCircuits
        relay.maximumCircuitsPerPeer = maxCircuitsPerPeer
        relay.reservationLifetime = .seconds(reservationSeconds)
        relay.circuitLimit =
            unlimited
            ? nil
            : ConnectionLimit(
                duration: circuitSeconds > 0 ? .seconds(circuitSeconds) : nil,
                byteCount: circuitData.count > 0 ? UInt64(circuitData.count) : nil)
        relay.circuitRate = circuitRate.count > 0 ? circuitRate.count : nil
        relay.totalRate = totalRate.count > 0 ? totalRate.count : nil
        relay.allowedPeers = allow.isEmpty ? nil : Set(allow)
        return relay
    }
}
