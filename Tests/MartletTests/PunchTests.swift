import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm
import Testing

@testable import Martlet

/// Nodes that meet through a relay and punch, on the loopback interface.
@Suite struct PunchTests {
    /// A dialer and a target with a reservation at a relay.
    private struct Trio {
        let relay: Node
        let dialer: Node
        let target: Node
        let circuit: Multiaddr

        init(_ transports: [String]) async throws {
            let listen = try transports.map { try Multiaddr("/ip4/127.0.0.1/\($0)") }
            relay = try await NodePair.node {
                $0.listenAddresses = listen
                $0.relay = RelayConfiguration()
            }
            let place = relay.listenAddresses[0]
            target = try await NodePair.node {
                $0.listenAddresses = listen
                $0.relays = [place]
                $0.punching.takesLoopback = true
            }
            dialer = try await NodePair.node {
                $0.listenAddresses = listen
                $0.punching.takesLoopback = true
            }
            circuit = try Multiaddr("\(place)/p2p-circuit/p2p/\(target.peerID)")
            while try await !target.announcedAddresses().contains(where: \.isCircuit) { try await Self.pause() }
        }

        static func pause() async throws { try await Task.sleep(for: .milliseconds(2)) }

        /// Waits until both sides use a direct connection.
        func waitUntilDirect() async throws {
            for (node, peer) in [(dialer, target.peerID), (target, dialer.peerID)] {
                while true {
                    if let path = try await node.status(of: peer)?.path, path != .relayed { break }
                    try await Self.pause()
                }
            }
        }

        /// The punches between the two that are over, as one side saw them: at least `count`.
        func reports(of node: Node, count: Int = 1) async throws -> [PunchReport] {
            let peer = node.peerID == dialer.peerID ? target.peerID : dialer.peerID
            while true {
                let reports = try await node.punchReports(of: peer)
                if reports.count >= count { return reports }
                try await Self.pause()
            }
        }

        func stop() async {
            await dialer.stop()
            await target.stop()
            await relay.stop()
        }
    }

    @Test(arguments: [["udp/0/quic-v1"], ["tcp/0"], ["tcp/0", "udp/0/quic-v1"]])
    func nodesBehindARelayBecomeDirect(transports: [String]) async throws {
        let trio = try await Trio(transports)
        try await trio.dialer.connect(to: trio.circuit)
        try await trio.waitUntilDirect()
        let ofDialer = try #require(try await trio.reports(of: trio.dialer).last)
        let ofTarget = try #require(try await trio.reports(of: trio.target).last)
        for report in [ofDialer, ofTarget] {
            #expect(report.method == .martlet)
            #expect(report.stage == .connected)
            guard case .connected(let address)? = report.outcome else {
                Issue.record("\(report)")
                continue
            }
            #expect(!address.isCircuit)
        }
        #expect(ofDialer.isDialer && !ofTarget.isDialer)
        await trio.stop()
    }

    @Test(arguments: [["udp/0/quic-v1"], ["tcp/0"]])
    func aDirectPathThatIsLostIsLookedForAtOnce(transports: [String]) async throws {
        let trio = try await Trio(transports)
        serveEcho(trio.target)
        try await trio.dialer.connect(to: trio.circuit)
        // Keeps the relayed connection there.
        let relayed = try await trio.dialer.driver.onHome { driver in
            let infos = driver.engine.swarm.connectionInfos
            return infos.first { $0.path == .relayed }.flatMap { driver.driver(of: $0.id) }
        }
        let stream = try await trio.dialer.openStream(
            on: try #require(relayed), to: trio.target.peerID, protocol: "/echo/1")
        for loss in 1...3 {
            try await trio.waitUntilDirect()
            let target = trio.target.peerID
            try await trio.dialer.driver.onHome { driver in
                guard let used = driver.driver(for: target) else { return }
                used.loop.execute { used.close() }
            }
            // Every loss is followed by a punch, and there is no other way to a direct connection.
            _ = try await trio.reports(of: trio.dialer, count: loss + 1)
        }
        try await trio.waitUntilDirect()
        try await stream.write(Bytes([1]))
        #expect(try await stream.read()?.count == 1)
        await trio.stop()
    }

    @Test func aStreamToPunchIsRefusedOnADirectConnection() async throws {
        let pair = try await NodePair()
        try await pair.connect()
        for protocolID in [Punch.protocolID, DCUtR.protocolID] {
            await #expect(throws: MartletError.self) {
                let stream = try await pair.a.openStream(to: pair.b.peerID, protocol: protocolID)
                try await stream.write(Bytes([0]))
                while try await stream.read() != nil {}
            }
        }
        await pair.stop()
    }
}
