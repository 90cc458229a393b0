import Martlet
import MartletCore
import MartletIdentity

/// Pings a peer a number of times, or until the path to it is direct.
struct PingOperation: Sendable {
    let node: Node
    let count: Int
    let interval: Double
    /// Seconds; nil does not wait for a direct path.
    let untilDirectWithin: Double?

    func run(_ target: PeerTarget, _ report: @escaping NodeOperations.Report) async throws -> PingReport {
        guard (1...NodeOperations.pingLimit).contains(count), (0...3600).contains(interval),
            untilDirectWithin.map({ $0 > 0 && $0 <= 3600 }) ?? true
        else {
            throw Failure(
                "a ping is sent 1 to \(NodeOperations.pingLimit) times, at intervals and for a time of at most 3600 s",
                code: "invalidArgument", exitStatus: .usage)
        }
        var run = Run(begin: .systemNow(), deadline: untilDirectWithin.map { .systemNow() + .seconds($0) })
        let peer: PeerID
        do {
            peer = try await connect(target, before: run.deadline)
        } catch  where !Task.isCancelled && run.isLate {
            throw Failure(
                "no connection to \(target) within \(run.waited) s, neither relayed nor direct", code: "timedOut",
                exitStatus: .unreachable)
        }
        run.connectedAt = .systemNow()
        let watch = DirectPathWatch()
        if run.deadline != nil { await watch.start(node, peer) }
        defer { watch.stop() }
        while true {
            try await ping(peer, &run, report)
            // A path that a ping has taken, and when it was there.
            if let path = run.path, path > .relayed {
                watch.found()
                run.directAt = watch.foundAt
            }
            let isDone = run.deadline == nil || run.directAt != nil
            if isDone, run.times.count >= count { return run.report(peer) }
            if let deadline = run.deadline, !isDone, .systemNow() >= deadline {
                return run.report(
                    peer, failure: Failure(run.explanation(peer), code: "timedOut", exitStatus: .unreachable))
            }
            guard interval > 0 else { continue }
            if isDone || run.deadline == nil {
                try await Task.sleep(for: .seconds(interval))
            } else {
                try await watch.pause(for: .seconds(interval))
            }
        }
    }

    private func ping(_ peer: PeerID, _ run: inout Run, _ report: NodeOperations.Report) async throws {
        do {
            // Asked before the ping, which then takes this path or a better one.
            let status = try await node.status(of: peer)
            let time = try await node.ping(peer).first?.microseconds ?? 0
            run.times.append(time)
            run.path = status?.path
            run.transport = status?.transport
            report(
                .roundTrip(
                    RoundTripReport(
                        peer: "\(peer)", sequence: run.times.count, rttUs: Text.rounded(time),
                        path: run.path?.rawValue, transport: run.transport?.rawValue)))
        } catch let error as MartletError {
            // A connection may be lost while a better one is made; without a time to wait, it is the answer.
            guard let deadline = run.deadline, .systemNow() < deadline else { throw error }
            run.lastError = error.message
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    private func connect(_ target: PeerTarget, before deadline: Instant?) async throws -> PeerID {
        let node = node
        let dial = Task {
            switch target {
            case .peer(let peer): try await node.connect(to: peer)
            case .address(let address): try await node.connect(to: address)
            }
        }
        let timer = deadline.map { deadline in
            Task {
                try await Task.sleep(for: deadline - .systemNow())
                dial.cancel()
            }
        }
        defer { timer?.cancel() }
        return try await withTaskCancellationHandler {
            try await dial.value
        } onCancel: {
            dial.cancel()
        }
    }

    /// What has come of it so far.
    private struct Run {
        let begin: Instant
        let deadline: Instant?
        var connectedAt: Instant?
        var directAt: Instant?
        var times: [Double] = []
        var path: PathKind?
        var transport: TransportName?
        var lastError: String?

        var isLate: Bool { deadline.map { .systemNow() >= $0 } ?? false }
        var waited: String { Text.fixed((Instant.systemNow() - begin).secondsAsDouble, 1) }

        func explanation(_ peer: PeerID) -> String {
            let path = path.map { "the path is \($0.rawValue)" } ?? "there was no answer"
            let reason = lastError.map { ": \($0)" } ?? ""
            return "no direct connection to \(peer) within \(waited) s, \(path)\(reason)"
        }

        func report(_ peer: PeerID, failure: Failure? = nil) -> PingReport {
            PingReport(
                peer: "\(peer)", times: times, path: path?.rawValue, transport: transport?.rawValue,
                connectMs: ((connectedAt ?? begin) - begin).milliseconds,
                directMs: directAt.map { ($0 - begin).milliseconds }, error: failure)
        }
    }
}
