import Martlet
import MartletCore
import MartletIdentity

/// Finds out how a node can be reached, and how it reaches one peer.
struct DoctorOperation: Sendable {
    let node: Node
    /// A node that just began learns how it is seen in the first seconds.
    let patience: Duration

    func run(_ target: String?) async throws -> DoctorReport {
        var peer: DoctorReport.Peer?
        if let target { peer = try await examine(PeerTarget(target)) }
        return DoctorReport(try await settledReport(), peer: peer)
    }

    /// Waits until nothing more is about to be known, or patience ends.
    private func settledReport() async throws -> ReachabilityReport {
        let deadline = Instant.systemNow() + patience
        var report = try await node.reachabilityReport()
        var quietSince = Instant.systemNow()
        while Instant.systemNow() < deadline, !Task.isCancelled {
            if isUndecided(report) { quietSince = Instant.systemNow() }
            // What a peer says comes a little after its connection, and questions to it after that.
            if Instant.systemNow() - quietSince >= Self.quietTime { break }
            try await Task.sleep(for: .milliseconds(50))
            report = try await node.reachabilityReport()
        }
        return report
    }

    private static let quietTime = Duration.milliseconds(600)

    private func isUndecided(_ report: ReachabilityReport) -> Bool {
        let isConnecting = report.relays.contains { !$0.isConnected && $0.lastFailure == nil }
        return !report.sockets.isEmpty && (report.isLearning || isConnecting)
    }

    private func examine(_ target: PeerTarget) async throws -> DoctorReport.Peer {
        let peer: PeerID
        do {
            switch target {
            case .peer(let id): peer = try await node.connect(to: id)
            case .address(let address): peer = try await node.connect(to: address)
            }
        } catch let error as MartletError {
            return .init(
                peer: nil, paths: [], attempts: [], error: Failure(error),
                reasons: ["There is no connection to the peer at all."],
                remedies: ["Check that it runs and that its address is right; behind a NAT it needs a relay."])
        }
        try await waitForPath(to: peer)
        let statuses = try await node.peers().filter { $0.peer == peer }
        let paths = statuses.map {
            DoctorReport.Path(
                address: "\($0.address)", path: $0.path.rawValue, transport: $0.transport?.rawValue,
                rttUs: $0.roundTrip.map { Text.rounded($0.microseconds) })
        }
        let attempts = try await node.punchReports(of: peer)
        var advice: DirectPathAdvice?
        if !statuses.contains(where: { $0.path != .relayed }) { advice = try await self.advice(attempts.last) }
        return .init(
            peer: "\(peer)", paths: paths, attempts: attempts.map { .init($0) }, error: nil,
            reasons: advice?.reasons ?? [], remedies: advice?.remedies ?? [])
    }

    /// A relayed connection becomes a direct one soon, if it does.
    private func waitForPath(to peer: PeerID) async throws {
        let deadline = Instant.systemNow() + patience
        while Instant.systemNow() < deadline, !Task.isCancelled {
            let statuses = try await node.peers().filter { $0.peer == peer }
            let isEnded = try await node.punchReports(of: peer).last?.outcome != nil
            if isEnded || statuses.contains(where: { $0.path != .relayed }) { return }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func advice(_ attempt: PunchReport?) async throws -> DirectPathAdvice {
        let report = try await node.reachabilityReport()
        let known = report.sockets.map(\.nat).first { $0.mapping != .unknown }
        return DirectPathAdvice(
            local: attempt?.localNAT.mapping == .unknown ? known ?? NATKind() : attempt?.localNAT ?? known ?? NATKind(),
            remote: attempt?.remoteNAT ?? NATKind(), remoteIsKnown: attempt.map { $0.method == .martlet } ?? false,
            ports: report.portNames, hasListeners: !report.sockets.isEmpty,
            isUDPBlocked: report.udp.map { !$0.isAnswered } ?? false, attempt: attempt)
    }
}

extension ReachabilityReport {
    /// The ports that the node listens at beyond this machine, as a person forwards them: those of UDP first.
    var portNames: [String] {
        var names: [String] = []
        for isUDP in [true, false] {
            for socket in sockets where socket.listener.contains(.udp) == isUDP && socket.hasAddress {
                guard let port = socket.listener.port else { continue }
                let name = "\(isUDP ? "UDP" : "TCP") port \(port)"
                if !names.contains(name) { names.append(name) }
            }
        }
        return names
    }
}
