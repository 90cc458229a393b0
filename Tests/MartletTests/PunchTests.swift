import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm
import Testing

@testable import Martlet

/// Nodes that meet through a relay and punch, on the loopback interface.
@Suite(.timeLimit(.minutes(5))) struct PunchTests {
    /// A dialer and a target with a reservation at a relay.
    private struct Trio {
        let relay: Node
        let dialer: Node
        let target: Node
        let circuit: Multiaddr

        init(_ transports: [String], retirementDelay: Duration = .seconds(2)) async throws {
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
                $0.retirementDelay = retirementDelay
            }
            dialer = try await NodePair.node {
                $0.listenAddresses = listen
                $0.punching.takesLoopback = true
                $0.retirementDelay = retirementDelay
            }
            circuit = try Multiaddr("\(place)/p2p-circuit/p2p/\(target.peerID)")
            while try await !target.announcedAddresses().contains(where: \.isCircuit) { try await Self.pause() }
        }

        /// Over the relay. On a machine so busy that a node is silent for seconds, its connections are made anew.
        func meet() async throws {
            while true {
                do {
                    try await dialer.connect(to: circuit)
                    return
                } catch is MartletError {
                    try await Self.pause()
                }
            }
        }

        static func pause() async throws { try await Task.sleep(for: .milliseconds(2)) }

        /// Waits until both sides use a direct connection.
        func waitUntilDirect() async throws {
            for (node, peer) in [(dialer, target.peerID), (target, dialer.peerID)] {
                while true {
                    let path = try await node.status(of: peer)?.path
                    if let path, path != .relayed { break }
                    if path == nil { try await meet() }
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
                if try await node.status(of: peer) == nil { try await meet() }
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
        try await trio.meet()
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
        // The relayed connection stays, however busy the machine is.
        let trio = try await Trio(transports, retirementDelay: .seconds(600))
        try await trio.meet()
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
