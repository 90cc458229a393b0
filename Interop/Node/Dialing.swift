import Martlet
import MartletCore
import MartletIdentity

/// The dialing half of Interop/README.md: one method a scenario, each giving the fields of its verdict.
struct Dialing {
    let node: Node
    let peer: PeerID
    let byteCount: Int
    let count: Int

    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    func run(_ scenario: String) async throws -> [(String, JSON)] {
        switch scenario {
        case "handshake": return try await handshake()
        case "identify": return try await IdentifyQuestion.ask(node, peer)
        case "half-close-identify": return try await IdentifyQuestion.ask(node, peer, finishesFirst: true)
        case "ping": return try await ping()
        case "echo": return try await echo(byteCount)
        case "streams": return try await streams()
        case "half-close": return try await halfClose()
        case "lattica-unary": return try await latticaUnary()
        case _ where scenario.hasPrefix("rpc-"):
            return try await LatticaCalls(node: node, peer: peer, byteCount: byteCount, count: count).run(scenario)
        case "reset-by-listener": return try await resetByListener()
        case "reset-by-dialer": return try await resetByDialer()
        case "refused": return try await refused()
        case "calls": return try await CallsInFlight.run(node, peer, count: count)
        case "silence": return try await Silence(node: node, peer: peer, count: count).run()
        case "wait": return wait()
        default: throw Failed(description: "no scenario \(scenario)")
        }
    }

    /// A Lattica node that does not like our identify would have closed the connection within the second.
    private func handshake() async throws -> [(String, JSON)] {
        try await Task.sleep(for: .seconds(1))
        guard try await node.peers().contains(where: { $0.peer == peer }) else {
            throw Failed(description: "the peer closed the connection")
        }
        return [("peer", .string("\(peer)"))]
    }

    private func ping() async throws -> [(String, JSON)] {
        let times = try await node.ping(peer, count: count).sorted()
        return [("rtt_us", .integer(Int(times[times.count / 2] / .microseconds(1))))]
    }

    @discardableResult
    private func echo(_ byteCount: Int) async throws -> [(String, JSON)] {
        let sent = Wire.pattern(byteCount)
        let stream = try await node.openStream(to: peer, protocol: Wire.echo)
        async let writing: Void = stream.writeAll(Bytes(sent))
        let received = try await stream.read(exactly: byteCount)
        try await writing
        try await stream.finish()
        guard received == sent else { throw Failed(description: "other bytes came back") }
        return [("bytes", .integer(byteCount))]
    }

    private func streams() async throws -> [(String, JSON)] {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<count { group.addTask { try await echo(1024) } }
            try await group.waitForAll()
        }
        return [("streams", .integer(count))]
    }

    private func halfClose() async throws -> [(String, JSON)] {
        let sent = Wire.pattern(byteCount)
        let stream = try await node.openStream(to: peer, protocol: Wire.halfClose)
        try await stream.writeAll(Bytes(sent))
        try await stream.finish()
        guard try await stream.readToEnd() == SHA256.hash(sent).bytes else {
            throw Failed(description: "the answer is not the hash of what was sent")
        }
        return [("bytes", .integer(byteCount))]
    }

    private func latticaUnary() async throws -> [(String, JSON)] {
        let sent = Wire.pattern(byteCount)
        guard try await node.lattica.call(peer, "Interop.echo", Bytes(sent)) == Bytes(sent) else {
            throw Failed(description: "other bytes came back")
        }
        return [("bytes", .integer(byteCount))]
    }

    private func resetByListener() async throws -> [(String, JSON)] {
        let stream = try await node.openStream(to: peer, protocol: Wire.reset)
        try await stream.write(Bytes(utf8: "s"))
        do {
            _ = try await stream.readToEnd()
        } catch let error as MartletError where error.code == .streamReset {
            return [("ended", .string("reset"))]
        }
        throw Failed(description: "the stream ended instead of being reset")
    }

    private func resetByDialer() async throws -> [(String, JSON)] {
        let stream = try await node.openStream(to: peer, protocol: Wire.reset)
        try await stream.write(Bytes(utf8: "d"))
        guard try await stream.read(exactly: 1) == Array("k".utf8) else { throw Failed(description: "not ready") }
        stream.reset()
        let question = try await node.openStream(to: peer, protocol: Wire.reset)
        try await question.write(Bytes(utf8: "?"))
        let seen = String(decoding: try await question.read(exactly: 5), as: UTF8.self)
        try await question.finish()
        guard seen == "reset" else { throw Failed(description: "the listener saw \(seen)") }
        return [("ended", .string(seen))]
    }

    private func refused() async throws -> [(String, JSON)] {
        do {
            _ = try await node.openStream(to: peer, protocol: Wire.nowhere)
        } catch let error as MartletError where error.code == .protocolNotSupported {
            _ = try await node.ping(peer)
            return [("refusal", .string("\(error)"))]
        }
        throw Failed(description: "a protocol that nobody serves was accepted")
    }

    private func wait() -> [(String, JSON)] {
        say([("event", .string("connected")), ("peer", .string("\(node.peerID)"))])
        while readLine() != nil {}
        return []
    }
}
