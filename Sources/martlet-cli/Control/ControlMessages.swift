import Martlet
import MartletCore

/// What a command asks of the running node. A connection to the control socket carries one request, as one line of JSON;
/// the node answers with lines of `ControlReply`, of which `done` or `failed` is the last.
enum ControlRequest: Codable, Sendable {
    case status
    case peers
    /// With a time, the pings go on until the path is direct, so many seconds at most.
    case ping(target: String, count: Int, interval: Double, untilDirectWithin: Double?)
    case share(path: String)
    case shares
    case unshare(cid: String)
    case get(cid: String, path: String, from: [String], replacing: Bool)
    case services(target: String)
    case call(target: String, method: String, text: String?, file: String?, deadline: Double)
    /// How the node is reached, and the target from it. Waits so many seconds for what is not known yet.
    case doctor(target: String?, patience: Double)

    /// Requests are a path and a few addresses; nothing of them is long.
    static let byteLimit = 64 << 10
}

enum ControlReply: Codable, Sendable {
    /// How far a transfer is. A client that reads slowly gets only the latest.
    case progress(TransferProgress)
    case roundTrip(RoundTripReport)
    /// The answer to the request.
    case done(ControlAnswer)
    case failed(Failure)

    static let byteLimit = 4 << 20
}

enum ControlAnswer: Codable, Sendable {
    case status(NodeReport)
    case peers(PeersReport)
    case ping(PingReport)
    case share(ShareReport)
    case shares(SharesReport)
    case transfer(TransferReport)
    case services(ServicesReport)
    case call(CallReport)
    case doctor(DoctorReport)
    case nothing
}

struct NodeReport: Codable, Sendable {
    let peer: String
    let addresses: [String]
    let version: String
    let process: Int32
}

struct PeersReport: Codable, Sendable {
    struct Peer: Codable, Sendable {
        let peer: String
        let address: String
        /// `outbound` when this node dialed.
        let direction: String
        let connectedSeconds: Double
        let rttUs: Double?
        let rttAgeSeconds: Double?
        let agent: String?
        let protocols: [String]
        /// `relayed`, `direct` or `lan`.
        let path: String
        /// `tcp`, `quic` or `unix`; for a relayed connection, on the way to the relay.
        let transport: String?
        /// The relay's limits on a relayed connection.
        let limitSeconds: Double?
        let limitBytes: UInt64?
        /// In the last seconds.
        let inBytesPerS: Double
        let outBytesPerS: Double
    }

    let peers: [Peer]
}

struct RoundTripReport: Codable, Sendable {
    let peer: String
    let sequence: Int
    let rttUs: Double
    /// As in `PeersReport`.
    let path: String?
    let transport: String?
}

struct PingReport: Codable, Sendable {
    let peer: String
    let count: Int
    let minUs: Double
    let p50Us: Double
    let p99Us: Double
    let maxUs: Double
    /// The last round trip and the path that it took.
    let rttUs: Double
    let path: String?
    let transport: String?
    /// From the request until the first connection, and until the first direct one.
    let connectMs: Double
    let directMs: Double?
    /// Why the path did not become what was wanted.
    let error: Failure?

    init(
        peer: String, times: [Double], path: String?, transport: String?, connectMs: Double, directMs: Double?,
        error: Failure? = nil
    ) {
        let sorted = Measurements(microseconds: times.map { Text.rounded($0) })
        self.peer = peer
        count = times.count
        minUs = sorted.minimum
        p50Us = sorted.percentile(0.5)
        p99Us = sorted.percentile(0.99)
        maxUs = sorted.maximum
        rttUs = Text.rounded(times.last ?? 0)
        self.path = path
        self.transport = transport
        self.connectMs = Text.rounded(connectMs)
        self.directMs = directMs.map { Text.rounded($0) }
        self.error = error
    }
}

struct ShareReport: Codable, Sendable {
    let cid: String
    let path: String
    let bytes: Int
    /// False once the file has changed; then it is not served.
    let isCurrent: Bool

    init(_ shared: SharedContent) {
        cid = "\(shared.root)"
        path = shared.path
        bytes = shared.size
        isCurrent = shared.isCurrent
    }
}

struct SharesReport: Codable, Sendable {
    let shares: [ShareReport]
}

struct ServicesReport: Codable, Sendable {
    struct Method: Codable, Sendable {
        let path: String
        let kind: String
    }

    let peer: String
    let methods: [Method]
}

struct CallReport: Codable, Sendable {
    let peer: String
    let method: String
    let bytes: Int
    /// The answer when it is text, and otherwise in base 64.
    let text: String?
    let base64: String?
    /// Such as `float32[2×3]`, when the answer is a tensor.
    let tensor: String?
    let timeUs: Double
}

struct TransferProgress: Codable, Sendable {
    /// Bytes verified and written, those of an earlier run included.
    let bytes: Int
    let total: Int
}

struct TransferReport: Codable, Sendable {
    struct Source: Codable, Sendable {
        let peer: String
        let bytes: Int
        /// Pieces that were not what their hash says; they were fetched again from others.
        let corruptLeaves: Int
    }

    let cid: String
    let path: String
    let bytes: Int
    /// Bytes that an earlier run had already fetched.
    let resumedBytes: Int
    let seconds: Double
    /// Of what was fetched now.
    let mbPerS: Double
    let sources: [Source]
}
