import Martlet
import MartletCore
import MartletIdentity

/// What happens to a stream and to calls when the peer that they wait for falls silent: each end is said as it comes.
struct Silence {
    let node: Node
    let peer: PeerID
    let count: Int

    func run() async throws -> [(String, JSON)] {
        let events = node.subscribeToEvents()
        let watch = Task {
            for await event in events {
                if case .disconnected(peer, let reason) = event {
                    return say([("event", .string("disconnected")), ("reason", .string(reason))])
                }
            }
        }
        let stream = try await node.openStream(to: peer, protocol: Wire.echo)
        try await stream.write([1])
        _ = try await stream.read(exactly: 1)
        say([("event", .string("waiting"))])
        async let streamEnd = end { _ = try await stream.read(exactly: 1) }
        async let callEnds = withTaskGroup(of: String.self) { group in
            for caller in 0..<count {
                group.addTask {
                    await end { while true { try await CallsInFlight.call(node, peer, "silence \(caller)") } }
                }
            }
            return await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        say([("event", .string("stream-ended")), ("error", .string(await streamEnd))])
        let errors = await callEnds.sorted()
        say([("event", .string("calls-ended")), ("errors", .list(errors.map { .string($0) }))])
        await watch.value
        return [("calls", .integer(count))]
    }

    /// How something ended: the type of the error and its code.
    private func end(_ body: () async throws -> Void) async -> String {
        do {
            try await body()
            return "without an error"
        } catch let error as MartletError {
            return "MartletError.\(error.code)"
        } catch let error as RPCError {
            return "RPCError.\(error.code)"
        } catch {
            return "\(type(of: error)): \(error)"
        }
    }
}
