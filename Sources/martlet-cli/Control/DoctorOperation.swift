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
        var report = try await node.reachabilityReport()
        let deadline = Instant.systemNow() + patience
        while isUndecided(report), Instant.systemNow() < deadline, !Task.isCancelled {
            try await Task.sleep(for: .milliseconds(200))
            report = try await node.reachabilityReport()
        }
        return DoctorReport(report, peer: peer)
    }

    private func isUndecided(_ report: ReachabilityReport) -> Bool {
        let isAsking = report.addresses.contains { $0.reachability == .unknown } || report.addresses.isEmpty
        return isAsking && !report.sockets.isEmpty
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
        let ports = report.sockets.compactMap { socket in
            socket.listener.port.map { "\(socket.listener.contains(.udp) ? "UDP" : "TCP") port \($0)" }
        }
        let known = report.sockets.map(\.nat).first { $0.mapping != .unknown }
        var failure: String?
        if case .failed(let reason)? = attempt?.outcome { failure = reason }
        return DirectPathAdvice(
            local: attempt?.localNAT.mapping == .unknown ? known ?? NATKind() : attempt?.localNAT ?? known ?? NATKind(),
            remote: attempt?.remoteNAT ?? NATKind(), remoteIsKnown: attempt.map { $0.method == .martlet } ?? false,
            ports: ports.sorted { $0.hasPrefix("UDP") && !$1.hasPrefix("UDP") }, hasListeners: !report.sockets.isEmpty,
            failure: failure)
    }
}
