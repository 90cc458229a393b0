import Dispatch
import Martlet
import MartletCore
import MartletIdentity
import Synchronization

/// Calls that are always under way, so that whatever happens to the connection happens to a thousand of them.
enum CallsInFlight {
    private static let service = "interop.Calls"

    /// `echo` takes 50 ms to give its message back and notes it; `runs` says how many it ran, and how many of them again.
    static func serve(_ node: Node) {
        let ran = Mutex((seen: Set<[UInt8]>(), again: 0))
        node.rpc.register(service) { service in
            service.unary("echo") { request, _ in
                try await Task.sleep(for: .milliseconds(50))
                let message = request.prefix(64).array
                ran.withLock { if !$0.seen.insert(message).inserted { $0.again += 1 } }
                return request
            }
            service.unary("runs") { _, _ in
                let (runs, again) = ran.withLock { ($0.seen.count + $0.again, $0.again) }
                return RPCMessage(utf8: "\(runs) \(again)")
            }
        }
    }

    /// One call of `echo`.
    static func call(_ node: Node, _ peer: PeerID, _ text: String) async throws {
        _ = try await node.call(peer, "\(service).echo", RPCMessage(utf8: text))
    }

    private static func sayPath(_ path: String) { say([("event", .string("path")), ("path", .string(path))]) }

    /// What all callers have seen.
    private final class Tally: Sendable {
        let counts = Mutex(Counts())
        let isOver = Atomic(false)
    }

    private struct Counts {
        var calls = 0
        var wrong = 0
        var errors: [String] = []
        var errorCount = 0
        var answeredAt = ContinuousClock.now
        /// How long none of the calls was answered, at the longest.
        var longestPause = Duration.zero

        mutating func answered(isRight: Bool) {
            calls += 1
            wrong += isRight ? 0 : 1
            let now = ContinuousClock.now
            longestPause = max(longestPause, now - answeredAt)
            answeredAt = now
        }
    }

    /// Calls from `count` tasks until standard input ends, says which paths they took, and holds if every one was answered.
    static func run(_ node: Node, _ peer: PeerID, count: Int) async throws -> [(String, JSON)] {
        let tally = Tally()
        // Reading blocks its thread, which is not to be one of the tasks' own.
        DispatchQueue.global().async {
            while readLine() != nil {}
            tally.isOver.store(true, ordering: .relaxed)
        }
        let events = node.subscribeToEvents()
        let watch = Task {
            for await event in events {
                switch event {
                case .pathChanged(peer, let path): sayPath("\(path)")
                // Without any connection in between, the next one is no change of path.
                case .connected(peer, let address, _): sayPath(address.isCircuit ? "relayed" : "direct")
                default: break
                }
            }
        }
        let path = try await node.peers().first { $0.peer == peer }?.path
        say([("event", .string("connected")), ("path", .string(path.map { "\($0)" } ?? "none"))])
        await withTaskGroup(of: Void.self) { group in
            for caller in 0..<count {
                group.addTask {
                    var number = 0
                    while !tally.isOver.load(ordering: .relaxed) {
                        number += 1
                        let message = RPCMessage(utf8: "\(caller)/\(number)")
                        do {
                            let answer = try await node.call(peer, "\(service).echo", message)
                            let isRight = answer.prefix(64) == message.prefix(64)
                            tally.counts.withLock { $0.answered(isRight: isRight) }
                        } catch {
                            tally.counts.withLock {
                                $0.errorCount += 1
                                if $0.errors.count < 5 { $0.errors.append("\(error)") }
                            }
                            // Not to fail a million times while a peer is away.
                            try? await Task.sleep(for: .milliseconds(100))
                        }
                    }
                }
            }
            await group.waitForAll()
        }
        watch.cancel()
        let runs = try await node.call(peer, "\(service).runs").prefix(64).array
        let total = tally.counts.withLock { $0 }
        let fields: [(String, JSON)] = [
            ("calls", .integer(total.calls)), ("wrong", .integer(total.wrong)), ("errors", .integer(total.errorCount)),
            ("longest_pause_ms", .integer(Int(total.longestPause / .milliseconds(1)))),
            ("texts", .list(total.errors.map { .string($0) })),
            ("runs", .string(String(decoding: runs, as: UTF8.self))),
        ]
        guard total.calls > 0, total.wrong == 0, total.errorCount == 0 else {
            throw Dialing.Failed(description: JSON.object(fields))
        }
        return fields
    }
}
