import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity

struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Run a node until it is interrupted.",
        discussion: """
            Prints the addresses that others can reach it at, one a line, and then `ready`: it is listening, one of the \
            peers given is connected or has not answered within 5 seconds, and with --relay, a relay has granted a \
            reservation, unless the node has a public address of its own.

            SIGINT and SIGTERM stop it in order; a second one at once. Without an identity in the data directory, one is \
            made.
            """)

    @Option(
        help: ArgumentHelp(
            "An address to accept connections at: /ip4|ip6/ADDRESS/tcp/PORT, /ip4|ip6/ADDRESS/udp/PORT/quic-v1 or /unix/PATH; may be given several times. (default: TCP and UDP port 4001 on every address, or free ports when those are taken)",
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
            "A relay that others can reach this node through; may be given several times.", valueName: "multiaddr"),
        transform: parseMultiaddr)
    var relay: [Multiaddr] = []

    @Flag(help: "Let peers measure throughput with /perf/1.0.0. It costs whatever they ask.")
    var servePerf = false

    @Flag(help: "Do not ask the gateway to forward ports.")
    var noPortMapping = false

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    /// How long `ready` waits for a peer.
    private static let peerWait = Duration.seconds(5)
    /// Events that wait to be printed; more, and the oldest are not.
    private static let eventLimit = 1024

    func run() async throws {
        let directory = try data.resolve()
        let signals = try Signals { [path = directory.controlSocket] in ControlSocket.remove(path) }
        try directory.create()
        let lock = try NodeLock(directory)
        let events = AsyncStream.makeStream(of: NodeEvent.self, bufferingPolicy: .bufferingNewest(Self.eventLimit))
        let node = try await start(directory, output.json ? events.continuation : nil)
        let control = try await ControlServer.start(for: node, in: directory)
        announceAddresses(node)
        let report = Task { [json = output.json] in if json { await Self.report(events.stream) } }
        let ready = Task {
            async let peer: Void = waitForPeer(node)
            await waitForRelay(node)
            await peer
            if !Task.isCancelled { announceReady(node) }
        }
        _ = await signals.next()
        ready.cancel()
        control.stop()
        await node.stop()
        await report.value
        withExtendedLifetime(lock) {}
    }

    private func start(
        _ directory: DataDirectory, _ events: AsyncStream<NodeEvent>.Continuation?
    ) async throws -> Node {
        var configuration = NodeConfiguration()
        configuration.events = events
        configuration.dataDirectory = directory.path
        configuration.identity = try KeyFile.loadOrCreate(at: directory.keyFile, passphrase: try passphrase.read())
        configuration.peers = peer
        configuration.relays = relay
        configuration.servesPerf = servePerf
        configuration.mapsPorts = !noPortMapping
        node.apply(to: &configuration)
        guard listen.isEmpty else {
            configuration.listenAddresses = listen
            return try await Node.start(configuration)
        }
        configuration.listenAddresses = try DefaultListenAddresses.at(port: 4001)
        do {
            return try await Node.start(configuration)
        } catch let error as MartletError where error.code == .systemError {
            configuration.listenAddresses = try DefaultListenAddresses.at(port: 0)
            return try await Node.start(configuration)
        }
    }

    // MARK: What is printed

    private struct Line: Encodable {
        let event: String
        var peer: String?
        var address: String?
        var direction: String?
        var agent: String?
        var path: String?
        var reason: String?
        var reachability: String?
        var method: String?
    }

    private func announceAddresses(_ node: Node) { announce(node.listenAddresses, node) }

    private func announce(_ addresses: [Multiaddr], _ node: Node) {
        for address in addresses {
            if output.json {
                Output.json(Line(event: "listening", peer: "\(node.peerID)", address: "\(address)"))
            } else {
                Output.line("\(address)")
            }
        }
    }

    private func announceReady(_ node: Node) {
        if output.json { Output.json(Line(event: "ready", peer: "\(node.peerID)")) } else { Output.line("ready") }
    }

    private static func report(_ events: AsyncStream<NodeEvent>) async {
        for await event in events {
            switch event {
            case .connected(let peer, let address, let isOutbound):
                Output.json(
                    Line(
                        event: "connected", peer: "\(peer)", address: "\(address)",
                        direction: isOutbound ? "outbound" : "inbound"))
            case .identified(let peer, let agent, _):
                Output.json(Line(event: "identified", peer: "\(peer)", agent: agent))
            case .pathChanged(let peer, let path):
                Output.json(Line(event: "path_changed", peer: "\(peer)", path: path.rawValue))
            case .relayReserved(let relay, let addresses):
                for address in addresses {
                    Output.json(Line(event: "reserved", peer: "\(relay)", address: "\(address)"))
                }
            case .relayLost(let relay, let reason):
                Output.json(Line(event: "reservation_lost", peer: "\(relay)", reason: reason))
            case .relayFailed(let relay, let address, let reason):
                Output.json(
                    Line(
                        event: "reservation_failed", peer: relay.map { "\($0)" }, address: "\(address)", reason: reason)
                )
            case .disconnected(let peer, let reason):
                Output.json(Line(event: "disconnected", peer: "\(peer)", reason: reason))
            case .reachabilityChanged(let addresses):
                for known in addresses where known.reachability != .unknown {
                    Output.json(
                        Line(
                            event: "reachability", address: "\(known.address)",
                            reachability: known.reachability.rawValue))
                }
            case .portMapped(let address, let method):
                Output.json(Line(event: "port_mapped", address: "\(address)", method: method.rawValue))
            }
        }
    }

    /// Until any peer is connected, when there are some to connect to.
    private func waitForPeer(_ node: Node) async {
        guard !peer.isEmpty else { return }
        let deadline = Instant.systemNow() + Self.peerWait
        while Instant.systemNow() < deadline, !Task.isCancelled {
            if let peers = try? await node.peers(), !peers.isEmpty { return }
            try? await Task.sleep(for: .milliseconds(20))
        }
        if !Task.isCancelled { Output.error("no peer has answered yet; the node keeps trying") }
    }

    /// Until peers can reach the node from everywhere, when there are relays for that.
    private func waitForRelay(_ node: Node) async {
        guard !relay.isEmpty else { return }
        let deadline = Instant.systemNow() + Self.peerWait
        var isLate = false
        while !Task.isCancelled {
            if let addresses = try? await node.announcedAddresses(),
                addresses.contains(where: { $0.isPublic || $0.isCircuit })
            {
                return announce(addresses.filter(\.isCircuit), node)
            }
            if !isLate, Instant.systemNow() >= deadline {
                isLate = true
                let reasons = (try? await node.relays())?.compactMap(\.lastFailure).joined(separator: "; ") ?? ""
                Output.error("no relay has granted a reservation yet; the node keeps trying (\(reasons))")
            }
            try? await Task.sleep(for: .milliseconds(20))
        }
    }
}
