import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity
import Synchronization

struct BenchRPCCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rpc",
        abstract: "Call a method over and over, a number of calls at a time.",
        discussion: "MB are those of requests and answers together.")

    @OptionGroup var bench: BenchOptions

    @Option(help: ArgumentHelp("Bytes of each request.", valueName: "n"))
    var size = 128

    @Option(help: ArgumentHelp("Bytes of each answer. (default: those of the request)", valueName: "n"))
    var reply: Int?

    @Option(help: ArgumentHelp("Calls at a time.", valueName: "n"))
    var inflight = 1

    @Option(help: ArgumentHelp("How long to measure.", valueName: "seconds"))
    var seconds = 5.0

    @Option(help: ArgumentHelp("How long to call before it counts.", valueName: "seconds"))
    var warmUp = 0.3

    @Option(help: ArgumentHelp("The class of the calls: control, activation or bulk.", valueName: "class"))
    var priority = Priority.activation

    enum Priority: String, ExpressibleByArgument, CaseIterable {
        case control, activation, bulk

        var priority: RPCPriority {
            switch self {
            case .control: .control
            case .activation: .activation
            case .bulk: .bulk
            }
        }
    }

    @Option(
        help: ArgumentHelp(
            "Keep two bulk calls of so many bytes going on the same connection meanwhile.", valueName: "n"))
    var besideBulk: Int?

    private struct Report: Encodable {
        let size: Int
        let reply: Int
        let inflight: Int
        let calls: Int
        let errors: Int
        let seconds: Double
        let callsPerS: Double
        let mbPerS: Double
        let p50Us: Double
        let p99Us: Double
        let maxUs: Double
        let bulkMbPerS: Double?
        let cpuS: Double
    }

    func validate() throws {
        guard (1...64 << 20).contains(besideBulk ?? 1) else {
            throw ValidationError("--beside-bulk is 1 to 67108864.")
        }
        guard (0...64 << 20).contains(size) else { throw ValidationError("--size is 0 to 67108864.") }
        guard (0...64 << 20).contains(reply ?? 0) else { throw ValidationError("--reply is 0 to 67108864.") }
        guard reply == nil || reply == size || reply == 0 || size >= 8 else {
            throw ValidationError("--size is at least 8 when the answer has another size: the request says which.")
        }
        guard (1...10_000).contains(inflight) else { throw ValidationError("--inflight is 1 to 10000.") }
        guard seconds > 0, seconds <= 86_400 else { throw ValidationError("--seconds is at most 86400.") }
        guard (0...60).contains(warmUp) else { throw ValidationError("--warm-up is 0 to 60.") }
    }

    /// What callers have measured. A few share one, so that many callers take little memory and seldom meet.
    private final class Measured: Sendable {
        private final class Tally: Sendable {
            let times = Mutex(LatencyHistogram())
            let errors = Mutex(0)
        }

        private let tallies = (0..<16).map { _ in Tally() }

        func note(_ time: Duration, of caller: Int) {
            tallies[caller % tallies.count].times.withLock { $0.add(time) }
        }

        func noteError(of caller: Int) { tallies[caller % tallies.count].errors.withLock { $0 += 1 } }

        var times: LatencyHistogram {
            tallies.reduce(into: LatencyHistogram()) { sum, tally in sum.add(tally.times.withLock(\.self)) }
        }
        var errors: Int { tallies.reduce(0) { $0 + $1.errors.withLock(\.self) } }
    }

    func run() async throws {
        let reply = reply ?? size
        let request = BenchRPC.request(size: size, reply: reply)
        let load = Load(
            method: BenchRPC.method(size: size, reply: reply), request: request, reply: reply,
            options: RPCCallOptions(priority: priority.priority))
        let (measured, elapsed, cpu, bulk) = try await bench.run {
            [inflight, seconds, warmUp, besideBulk] node, peer in
            // Before anything is measured: the connection is there, and the server answers.
            _ = try await node.call(peer, load.method, request)
            async let bulkBytes = Self.sendBulk(besideBulk ?? 0, for: warmUp + seconds, node, peer)
            _ = try await Self.callAll(inflight, load, warmUp, node, peer)
            let cpu = ProcessUsage.cpuSeconds
            let begin = Instant.systemNow()
            let measured = try await Self.callAll(inflight, load, seconds, node, peer)
            let elapsed = (Instant.systemNow() - begin).secondsAsDouble
            let used = ProcessUsage.cpuSeconds - cpu
            return (measured, elapsed, used, try await bulkBytes / (warmUp + seconds))
        }
        let times = measured.times
        let rate = Double(times.count) / max(elapsed, 1e-9)
        let report = Report(
            size: size, reply: reply, inflight: inflight, calls: times.count,
            errors: measured.errors, seconds: Text.rounded(elapsed, 6),
            callsPerS: Text.rounded(rate), mbPerS: Text.rounded(rate * Double(size + reply) / 1e6),
            p50Us: Text.rounded(times.percentile(0.5)), p99Us: Text.rounded(times.percentile(0.99)),
            maxUs: Text.rounded(times.maximum), bulkMbPerS: besideBulk.map { _ in Text.rounded(bulk / 1e6) },
            cpuS: Text.rounded(cpu, 4))
        if bench.output.json { return Output.json(report) }
        Output.line(
            "\(Text.fixed(report.callsPerS, 0)) calls/s, \(Text.fixed(report.mbPerS, 1)) MB/s, median "
                + "\(Text.fixed(report.p50Us, 1)) µs, p99 \(Text.fixed(report.p99Us, 1)) µs, \(report.errors) errors, "
                + "\(Text.fixed(report.cpuS, 2)) s of processor here")
        if let bulk = report.bulkMbPerS { Output.line("\(Text.fixed(bulk, 1)) MB/s of bulk beside them") }
    }

    /// What is called, and how.
    private struct Load: Sendable {
        let method: String
        let request: RPCMessage
        let reply: Int
        let options: RPCCallOptions
    }

    /// Keeps two bulk calls of `size` bytes, if any, going for so long; returns how many bytes they carried.
    private static func sendBulk(_ size: Int, for seconds: Double, _ node: Node, _ peer: PeerID) async throws -> Double
    {
        guard size > 0 else { return 0 }
        let request = BenchRPC.request(size: size, reply: 0)
        let method = BenchRPC.method(size: size, reply: 0)
        let end = Instant.systemNow() + .nanoseconds(Int64(seconds * 1e9))
        return try await withThrowingTaskGroup(of: Double.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    var sent = 0.0
                    while Instant.systemNow() < end {
                        _ = try await node.call(peer, method, request, options: RPCCallOptions(priority: .bulk))
                        sent += Double(size)
                    }
                    return sent
                }
            }
            return try await group.reduce(0, +)
        }
    }

    /// Calls for so long from `count` tasks.
    private static func callAll(
        _ count: Int, _ load: Load, _ seconds: Double, _ node: Node, _ peer: PeerID
    ) async throws -> Measured {
        // On the thread that reads the socket: no change of thread between the answer and the next call.
        try await Task(executorPreference: node.executor) {
            let end = Instant.systemNow() + .nanoseconds(Int64(seconds * 1e9))
            let measured = Measured()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for caller in 0..<count {
                    group.addTask { try await call(until: end, load, node, peer, caller, measured) }
                }
                try await group.waitForAll()
            }
            return measured
        }.value
    }

    private static func call(
        until end: Instant, _ load: Load, _ node: Node, _ peer: PeerID, _ caller: Int, _ measured: Measured
    ) async throws {
        var errors = 0
        var begin = Instant.systemNow()
        while begin < end {
            do {
                let answer = try await node.call(peer, load.method, load.request, options: load.options)
                guard answer.byteCount == load.reply else {
                    throw Failure("\(answer.byteCount) bytes came back instead of \(load.reply)")
                }
                let now = Instant.systemNow()
                measured.note(now - begin, of: caller)
                begin = now
            } catch let error as RPCError {
                errors += 1
                measured.noteError(of: caller)
                // A peer that is gone fails every call at once: nothing to measure any more.
                if error.code == .unavailable, errors > 10 { return }
                begin = Instant.systemNow()
            }
        }
    }
}

/// The service of `bench serve` that `bench rpc` calls.
enum BenchRPC {
    private static let service = "martlet.Bench"

    static func method(size: Int, reply: Int) -> String {
        service + (reply == size ? ".echo" : reply == 0 ? ".sink" : ".reply")
    }

    /// A request; when it asks for an answer of another size, it begins with that size in 8 bytes.
    static func request(size: Int, reply: Int) -> RPCMessage {
        RPCMessage(
            Bytes(count: size) { room in
                room.initializeMemory(as: UInt8.self, repeating: 0x6D)
                if reply != size, size >= 8 { room.storeBytes(of: UInt64(reply).bigEndian, as: UInt64.self) }
            })
    }

    static func register(on node: Node) {
        let answer = Mutex(RPCMessage())
        node.rpc.register(service) { service in
            service.unary("echo") { request, _ in request }
            service.unary("sink") { _, _ in RPCMessage() }
            service.unary("reply") { request, _ in
                let head = request.prefix(8)
                let size = head.array.reduce(0) { $0 << 8 | UInt64($1) }
                guard head.count == 8, size <= 64 << 20 else {
                    throw RPCError(.invalidArgument, "a request begins with the size of its answer, at most 64 MiB")
                }
                // The same for all who ask for this size: making it is not what is measured.
                return answer.withLock { answer in
                    if answer.byteCount != Int(size) {
                        answer = RPCMessage(
                            Bytes(count: Int(size)) { $0.initializeMemory(as: UInt8.self, repeating: 0x6D) })
                    }
                    return answer
                }
            }
        }
    }
}
