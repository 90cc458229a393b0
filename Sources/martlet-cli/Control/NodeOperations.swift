import FoundationEssentials
import Martlet
import MartletCore
import MartletIdentity
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Carries out the commands on a node: the running one, for those who ask over its control socket, or a temporary one.
struct NodeOperations: Sendable {
    let node: Node

    typealias Report = @Sendable (ControlReply) -> Void

    func perform(_ request: ControlRequest, report: @escaping Report) async throws -> ControlAnswer {
        switch request {
        case .status:
            .status(
                NodeReport(
                    peer: "\(node.peerID)", addresses: try await addresses(), version: Version.text,
                    process: getpid()))
        case .peers: .peers(try await peers())
        case .ping(let target, let count, let interval, let untilDirect):
            .ping(
                try await PingOperation(node: node, count: count, interval: interval, untilDirectWithin: untilDirect)
                    .run(PeerTarget(target), report))
        case .share(let path): .share(try await share(path))
        case .shares: .shares(try await shares())
        case .unshare(let cid): try await unshare(CID(cid))
        case .get(let cid, let path, let sources, let replacing):
            .transfer(
                try await get(
                    CID(cid), to: path, from: sources.map { try Multiaddr($0) }, replacing: replacing, report))
        case .services(let target): .services(try await services(PeerTarget(target)))
        case .call(let target, let method, let text, let file, let deadline):
            .call(try await call(PeerTarget(target), method, text: text, file: file, deadline: deadline))
        case .doctor(let target, let patience):
            .doctor(
                try await DoctorOperation(node: node, patience: .milliseconds(Int64(min(max(patience, 0), 300) * 1000)))
                    .run(target))
        }
    }

    // MARK: Peers

    private func peers() async throws -> PeersReport {
        let peers = try await node.peers().map { status in
            PeersReport.Peer(
                peer: "\(status.peer)", address: "\(status.address)",
                direction: status.isOutbound ? "outbound" : "inbound",
                connectedSeconds: Text.rounded(status.connectedFor.secondsAsDouble),
                rttUs: status.roundTrip.map { Text.rounded($0.microseconds) },
                rttAgeSeconds: status.roundTripAge.map { Text.rounded($0.secondsAsDouble) }, agent: status.agent,
                protocols: status.protocols, path: status.path.rawValue, transport: status.transport?.rawValue,
                limitSeconds: status.limit?.duration?.secondsAsDouble, limitBytes: status.limit?.byteCount,
                inBytesPerS: Text.rounded(status.receivedPerSecond, 0),
                outBytesPerS: Text.rounded(status.sentPerSecond, 0))
        }
        return PeersReport(peers: peers)
    }

    /// Where the node listens, and the relays that it can be reached through.
    private func addresses() async throws -> [String] {
        let announced = try await node.announcedAddresses().filter { !node.listenAddresses.contains($0) }
        return (node.listenAddresses + announced).map { "\($0)" }
    }

    /// Pings at most this many times for one request, so that a forgotten one ends some day.
    static let pingLimit = 1_000_000

    private func reach(_ target: PeerTarget) async throws -> PeerID {
        switch target {
        case .peer(let peer): try await node.connect(to: peer)
        case .address(let address): try await node.connect(to: address)
        }
    }

    // MARK: Calls

    private func services(_ target: PeerTarget) async throws -> ServicesReport {
        let peer = try await reach(target)
        return ServicesReport(
            peer: "\(peer)", methods: try await node.services(of: peer).map { .init(path: $0.path, kind: $0.kind) })
    }

    private func call(
        _ target: PeerTarget, _ method: String, text: String?, file: String?, deadline: Double
    ) async throws -> CallReport {
        guard deadline > 0, deadline <= 86_400 else {
            throw Failure("a deadline is at most 86400 s", code: "invalidArgument", exitStatus: .usage)
        }
        let message =
            if let file { RPCMessage(Bytes(try Self.contents(of: file))) } else { RPCMessage(utf8: text ?? "") }
        let peer = try await reach(target)
        let begin = Instant.systemNow()
        let reply = try await node.call(
            peer, method, message, options: .init(deadline: .milliseconds(Int64(deadline * 1000))))
        let time = (Instant.systemNow() - begin).microseconds
        let bytes = reply.contiguous().array
        let answer = String(validating: bytes, as: UTF8.self)
        return CallReport(
            peer: "\(peer)", method: method, bytes: bytes.count, text: answer,
            base64: answer == nil ? Data(bytes).base64EncodedString() : nil, tensor: reply.tensor.map { "\($0)" },
            timeUs: Text.rounded(time))
    }

    /// A file to be sent; as large as a message may be.
    private static func contents(of path: String) throws -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno) }
        defer { close(descriptor) }
        var contents: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        let limit = RPCLimits().messageSize
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            guard count >= 0 else { throw Failure.system("read", path, errno) }
            if count == 0 { return contents }
            contents += buffer[0..<count]
            guard contents.count <= limit else {
                throw Failure("\(path) is larger than a message may be (\(limit) bytes)", code: "limitReached")
            }
        }
    }

    // MARK: Content

    private func share(_ path: String) async throws -> ShareReport {
        let shared = try await node.share(path)
        return ShareReport(shared)
    }

    private func shares() async throws -> SharesReport {
        SharesReport(shares: try await node.shares().map { ShareReport($0) })
    }

    private func unshare(_ cid: CID) async throws -> ControlAnswer {
        try await node.unshare(cid)
        return .nothing
    }

    private func get(
        _ cid: CID, to path: String, from sources: [Multiaddr], replacing: Bool, _ report: @escaping Report
    ) async throws -> TransferReport {
        let begin = Instant.systemNow()
        let reported = Mutex<Instant?>(nil)
        let summary = try await node.fetch(cid, to: path, from: sources, replacing: replacing) { progress in
            // Often enough for a bar that moves; each report crosses a socket.
            let now = Instant.systemNow()
            let isDue = reported.withLock { last in
                guard last.map({ now - $0 >= .milliseconds(50) }) ?? true || progress.bytes >= progress.total else {
                    return false
                }
                last = now
                return true
            }
            if isDue { report(.progress(TransferProgress(bytes: progress.bytes, total: progress.total))) }
        }
        let seconds = max((Instant.systemNow() - begin).secondsAsDouble, 1e-6)
        let fetched = summary.sources.reduce(0) { $0 + $1.bytes }
        return TransferReport(
            cid: "\(cid)", path: path, bytes: summary.size, resumedBytes: summary.resumedBytes,
            seconds: Text.rounded(seconds), mbPerS: Text.rounded(Double(fetched) / seconds / 1e6),
            sources: summary.sources.map {
                .init(peer: "\($0.peer)", bytes: $0.bytes, corruptLeaves: $0.corruptLeaves.count)
            })
    }
}
