import Martlet
import MartletCore

/// How a node can be reached, and a peer from it, for `martlet doctor`.
struct DoctorReport: Codable, Sendable {
    struct NAT: Codable, Sendable {
        let mapping: String
        let filtering: String
        let allocation: String
        /// The same in a line, in the terms of RFC 4787.
        let terms: String?

        init(_ kind: NATKind) {
            mapping = kind.mapping.rawValue
            filtering = kind.filtering.rawValue
            allocation = "\(kind.allocation)"
            terms = kind.terms
        }
    }

    struct Socket: Codable, Sendable {
        let listener: String
        /// Whether this machine has an address of that family that others can send to.
        let hasAddress: Bool
        let nat: NAT
        let explanation: String
        /// Where peers see it.
        let seenAt: [String]
    }

    struct Address: Codable, Sendable {
        let address: String
        /// `listening`, `mapped`, `observed` or `forwarded`.
        let origin: String
        /// `public`, `private` or `unknown`.
        let reachability: String
        /// Peers that reached it, those of them that this node had sent nothing to, and those that did not reach it.
        let successes: Int
        let strangers: Int
        let failures: Int
    }

    /// How UDP by IPv4 fares between this machine and the internet.
    struct UDP: Codable, Sendable {
        /// `open`, `blocked`, or `unknown` while nobody could be asked.
        let state: String
        let nat: NAT
        let externalAddress: String?
        /// `yes`, `no`, `unnecessary` without a NAT, or `unknown`.
        let hairpin: String
    }

    /// What the kernel keeps for datagrams that wait at the node's sockets.
    struct UDPBuffers: Codable, Sendable {
        let receiveBytes: Int
        let sendBytes: Int
        let wantedReceiveBytes: Int
        let wantedSendBytes: Int
        /// The command that has the system grant what is wanted; nil where it grants enough.
        let remedy: String?
    }

    struct ForwardedPort: Codable, Sendable {
        /// `tcp` or `udp`.
        let transport: String
        let port: UInt16
        let externalAddress: String?
        let externalPort: UInt16
        /// `pcp`, `nat-pmp` or `upnp`.
        let method: String
        let expiresSeconds: Double?
        let isBehindAnotherNat: Bool
    }

    struct Relay: Codable, Sendable {
        let address: String
        let isConnected: Bool
        let expiresSeconds: Double?
        let rttUs: Double?
        let lastFailure: String?
    }

    struct Path: Codable, Sendable {
        let address: String
        let path: String
        let transport: String?
        let rttUs: Double?
    }

    struct Attempt: Codable, Sendable {
        let method: String
        let stage: String
        let tactic: String?
        let localNat: NAT
        let remoteNat: NAT
        let localAddresses: [String]
        let remoteAddresses: [String]
        let triedAddresses: [String]
        let packetsSent: Int
        let packetsHeard: Int
        let seconds: Double?
        /// Nil while it goes on.
        let isConnected: Bool?
        let failure: String?
    }

    struct Peer: Codable, Sendable {
        let peer: String?
        let paths: [Path]
        /// The attempts at a direct connection, the oldest first.
        let attempts: [Attempt]
        /// Why there is no connection at all.
        let error: Failure?
        /// Why there is no direct one, and what helps.
        let reasons: [String]
        let remedies: [String]
    }

    /// In a sentence.
    let verdict: String
    /// `public`, `relayed` or `unreachable`: how strangers reach this node.
    let reachability: String
    let sockets: [Socket]
    let addresses: [Address]
    let forwardedPorts: [ForwardedPort]
    let forwardingFailures: [String]
    /// What routers let in by IPv6.
    let pinholes: [ForwardedPort]
    let pinholeFailures: [String]
    let relays: [Relay]
    let announced: [String]
    let udp: UDP
    /// `carrier` or `router`: a NAT in front of this network's own.
    /// Nil while the node has no UDP socket.
    let udpBuffers: UDPBuffers?
    let outerNat: String?
    /// What keeps strangers out or packets back, and what helps.
    let reasons: [String]
    let remedies: [String]
    let peer: Peer?
}

extension DoctorReport {
    init(_ report: ReachabilityReport, peer: Peer?) {
        let reached = report.announced.filter { address in
            report.addresses.contains { $0.address == address && $0.reachability == .public }
        }
        // Of a machine behind a firewall, the addresses of the internet are believed of nobody but those who reached them.
        let isFirewalled = report.udp.map { $0.kind.mapping == .none && $0.kind.filtering.keepsStrangersOut } ?? false
        let believed = report.announced.filter { address in
            address.isPublic && !address.isCircuit && !isFirewalled
                && !report.addresses.contains { $0.address == address && $0.reachability == .private }
        }
        let circuits = report.announced.filter(\.isCircuit)
        if !reached.isEmpty {
            reachability = "public"
            verdict = "Strangers reach this node directly: peers that were asked to did."
        } else if !believed.isEmpty {
            reachability = "public"
            verdict = "Strangers should reach this node directly; no peer has tried it yet."
        } else if !circuits.isEmpty {
            reachability = "relayed"
            verdict =
                "Strangers reach this node through a relay; direct connections are made from there where the NATs allow it."
        } else if report.sockets.isEmpty {
            reachability = "unreachable"
            verdict = "This node listens nowhere: it reaches others, and nobody reaches it."
        } else {
            reachability = "unreachable"
            verdict =
                "Nobody outside this network reaches this node."
        }
        sockets = report.sockets.map { socket in
            Socket(
                listener: "\(socket.listener)", hasAddress: socket.hasAddress, nat: NAT(socket.nat),
                explanation: socket.nat.explanation,
                seenAt: socket.seenAt.map { "\($0.address)" })
        }
        addresses = report.addresses.map {
            Address(
                address: "\($0.address)", origin: $0.origin.rawValue, reachability: $0.reachability.rawValue,
                successes: $0.successCount, strangers: $0.strangerCount, failures: $0.failureCount)
        }
        forwardedPorts = report.forwardedPorts.map { ForwardedPort($0) }
        pinholes = report.pinholes.map { ForwardedPort($0) }
        pinholeFailures = report.pinholeFailures
        forwardingFailures = report.forwardingFailures
        relays = report.relays.map {
            Relay(
                address: "\($0.address)", isConnected: $0.isConnected,
                expiresSeconds: $0.expiresIn.map { Text.rounded($0.secondsAsDouble, 0) },
                rttUs: $0.roundTrip.map { Text.rounded($0.microseconds) }, lastFailure: $0.lastFailure)
        }
        announced = report.announced.map { "\($0)" }
        udp = UDP(report.udp)
        outerNat = report.outerNAT?.rawValue
        let advice = NodeAdvice(Self.situation(report, reachability))
        udpBuffers = report.datagramBuffers.map { UDPBuffers($0) }
        reasons = advice.reasons + (udpBuffers?.reasons ?? [])
        remedies = advice.remedies + (udpBuffers?.remedies ?? [])
        self.peer = peer
    }

    private static func situation(_ report: ReachabilityReport, _ reachability: String) -> NodeAdvice.Situation {
        var situation = NodeAdvice.Situation()
        situation.isReached = reachability == "public"
        situation.isRelayed = reachability == "relayed"
        situation.listens = !report.sockets.isEmpty
        situation.ports = report.portNames
        situation.udp = report.udp
        situation.servers = report.udpServers.map { "\($0)" }
        situation.outerNAT = report.outerNAT
        situation.hasForwardedPort = report.forwardedPorts.contains { !$0.isBehindAnotherNAT }
        situation.forwardingFailures = report.forwardingFailures
        situation.isIPv6Filtered = report.isIPv6Filtered
        return situation
    }
}

extension IPAddress {
    fileprivate var isGlobalIPv6: Bool { if case .v6 = self { scope == .global } else { false } }
}

extension ReachabilityReport {
    /// Whether strangers do not get in at IPv6 addresses of this machine.
    fileprivate var isIPv6Filtered: Bool {
        let known = addresses.filter { $0.address.ipAddress.map(\.isGlobalIPv6) ?? false }
        return known.contains { $0.reachability == .private } && !known.contains { $0.reachability == .public }
    }
}

extension DoctorReport.UDPBuffers {
    init(_ buffers: DatagramBuffers) {
        receiveBytes = buffers.receiveByteCount
        sendBytes = buffers.sendByteCount
        wantedReceiveBytes = DatagramBuffers.wanted.receiveByteCount
        wantedSendBytes = DatagramBuffers.wanted.sendByteCount
        remedy = buffers.remedy
    }

    var reasons: [String] {
        guard remedy != nil else { return [] }
        let granted =
            "\(Text.bytes(receiveBytes)) for datagrams that came in and \(Text.bytes(sendBytes)) for those that go out"
        let wanted = "\(Text.bytes(wantedReceiveBytes)) and \(Text.bytes(wantedSendBytes))"
        return [
            "The kernel keeps \(granted), where QUIC wants \(wanted): at high rates it loses packets, and is slower for that."
        ]
    }

    var remedies: [String] {
        remedy.map { ["Let programs have larger UDP buffers, as root: \($0) (lasting: the same in /etc/sysctl.d)."] }
            ?? []
    }
}

extension DoctorReport.ForwardedPort {
    init(_ port: ReachabilityReport.ForwardedPort) {
        transport = port.target.isTCP ? "tcp" : "udp"
        self.port = port.target.port
        externalAddress = port.externalAddress.map { "\($0)" }
        externalPort = port.externalPort
        method = port.method.rawValue
        expiresSeconds = port.expiresIn.map { Text.rounded($0.secondsAsDouble, 0) }
        isBehindAnotherNat = port.isBehindAnotherNAT
    }
}

extension DoctorReport.UDP {
    init(_ behavior: NATBehavior?) {
        state = behavior.map { $0.isAnswered ? "open" : "blocked" } ?? "unknown"
        let kind = behavior?.kind ?? NATKind()
        nat = .init(kind)
        externalAddress = behavior?.externalAddress.map { "\($0)" }
        hairpin =
            switch behavior?.hairpinning {
            case true?: "yes"
            case false?: "no"
            case nil: kind.mapping == .none ? "unnecessary" : "unknown"
            }
    }
}

extension DoctorReport.Attempt {
    init(_ report: PunchReport) {
        method = report.method.rawValue
        stage = report.stage.rawValue
        tactic = report.tactic
        localNat = .init(report.localNAT)
        remoteNat = .init(report.remoteNAT)
        localAddresses = report.localAddresses.map { "\($0)" }
        remoteAddresses = report.remoteAddresses.map { "\($0)" }
        triedAddresses = report.triedAddresses.map { "\($0)" }
        packetsSent = report.packetsSent
        packetsHeard = report.packetsHeard
        seconds = report.duration.map { Text.rounded($0.secondsAsDouble) }
        switch report.outcome {
        case .connected:
            isConnected = true
            failure = nil
        case .failed(let reason):
            isConnected = false
            failure = reason
        case nil:
            isConnected = nil
            failure = nil
        }
    }
}
