import Martlet
import MartletCore
import MartletRPC

/// Calls to the service `Calls` of a Lattica node: one method a scenario, as in peers/lattica_rpc_peer.py.
struct LatticaCalls {
    let node: Node
    let peer: PeerID
    let byteCount: Int
    let count: Int

    private typealias Failed = Dialing.Failed

    func run(_ scenario: String) async throws -> [(String, JSON)] {
        switch scenario {
        case "rpc-values": return try await values()
        case "rpc-arguments": return try await arguments()
        case "rpc-large": return try await large()
        case "rpc-items": return try await items(pausing: false)
        case "rpc-slow-items": return try await items(pausing: true)
        case "rpc-errors": return try await errors()
        case "rpc-cancel": return try await cancel()
        case "rpc-many": return try await many()
        case "rpc-parallel": return try await parallel()
        default: throw Failed(description: "no scenario \(scenario)")
        }
    }

    private static let samples: [PickleValue] = [
        .null, true, 0, -1, 2_147_483_648, .int(.min), .longInt(PickleInteger(UInt64.max)),
        .longInt(PickleInteger(littleEndian: [UInt8](repeating: 0xA5, count: 25))), 1.5, .float(.infinity), "",
        "grüße 😀\n\0", .bytes([0, 0xFF]), [], [1, [2, "three"], []], .tuple([]), .tuple([1]), .tuple([1, 2, 3, 4]),
        [:], ["node_id": "12D3", "rtts": ["a": 0.25], "layers": .tuple([0, 15]), "ready": true, "parent": .null],
        .dict([.init(key: 1, value: "one"), .init(key: .tuple([2, "b"]), value: [.null])]),
        .list((0..<3000).map { .int($0) }), .string(String(repeating: "x", count: 100_000)),
    ]

    private func call(_ method: String, _ arguments: LatticaArguments) async throws -> PickleValue {
        try LatticaArguments.decodeResult(try await node.lattica.call(peer, "Calls.\(method)", arguments.encoded()))
    }

    private func callStream(_ method: String, _ arguments: LatticaArguments) async throws -> PickleValue {
        try LatticaArguments.decodeResult(
            try await node.lattica.callStream(peer, "Calls.\(method)", arguments.encoded()))
    }

    /// What CPython read from our pickles, and we from its.
    private func values() async throws -> [(String, JSON)] {
        for value in Self.samples {
            // None alone is no argument, which `echo` would miss.
            guard value != .null else { continue }
            for answer in [
                try await call("echo", .positional([value])), try await callStream("echo_stream", .positional([value])),
            ] where answer != value {
                throw Failed(description: "a value came back changed: \(answer)")
            }
        }
        guard try await call("nothing", .none).isNull else { throw Failed(description: "nothing became something") }
        return [("values", .integer(Self.samples.count))]
    }

    private func arguments() async throws -> [(String, JSON)] {
        let expected: PickleValue = ["a": 1, "b": [2]]
        for answer in [
            try await call("pair", .positional([1, [2]])), try await call("pair", .keywords(["a": 1, "b": [2]])),
        ] where answer != expected {
            throw Failed(description: "arguments were mixed up: \(answer)")
        }
        return []
    }

    private func large() async throws -> [(String, JSON)] {
        let sent = PickleValue.bytes(Bytes(Wire.pattern(byteCount)))
        for answer in [
            try await call("echo", .positional([sent])), try await callStream("echo_stream", .positional([sent])),
        ] where answer != sent {
            throw Failed(description: "other bytes came back")
        }
        return [("bytes", .integer(byteCount))]
    }

    private func items(pausing: Bool) async throws -> [(String, JSON)] {
        let argument = try LatticaArguments.positional([.int(count)]).encoded()
        var received = 0
        for try await item in try await node.lattica.stream(peer, "Calls.count", argument) {
            guard item == Bytes(utf8: "item \(received)") else {
                throw Failed(description: "item \(received) is wrong")
            }
            received += 1
            if pausing, received == 1 { try await Task.sleep(for: .seconds(2)) }
        }
        guard received == count else { throw Failed(description: "\(received) of \(count) items came") }
        return [("items", .integer(received))]
    }

    private func errors() async throws -> [(String, JSON)] {
        let argument = try LatticaArguments.positional(["m1"]).encoded()
        var fields: [(String, JSON)] = []
        let calls: [(String, () async throws -> Void)] = [
            ("handler", { _ = try await node.lattica.call(peer, "Calls.fail", argument) }),
            ("method", { _ = try await node.lattica.call(peer, "Calls.nix") }),
            ("service", { _ = try await node.lattica.call(peer, "Nix.echo") }),
            ("format", { _ = try await node.lattica.call(peer, "echo") }),
            ("stream", { _ = try await node.lattica.callStream(peer, "Calls.fail_stream", argument) }),
            ("stream_method", { _ = try await node.lattica.callStream(peer, "Calls.nix") }),
            ("stream_service", { _ = try await node.lattica.callStream(peer, "Nix.echo") }),
            ("stream_format", { _ = try await node.lattica.callStream(peer, "echo") }),
        ]
        for (name, call) in calls {
            do {
                try await call()
                throw Failed(description: "\(name) did not fail")
            } catch let error as RPCError {
                fields.append((name, .string("\(error.code) \(error.outcome): \(error.message)")))
            }
        }
        guard try await callStream("echo_stream", .positional([1])) == 1 else {
            throw Failed(description: "the stream is not good for another call")
        }
        return fields
    }

    private func cancel() async throws -> [(String, JSON)] {
        do {
            let items = try await node.lattica.stream(peer, "Calls.endless")
            for _ in 0..<3 {
                guard try await items.next()?.count == 1000 else { throw Failed(description: "a wrong item") }
            }
        }
        // A call that crosses a cancellation can stop a Lattica node for good (../README.md).
        try await Task.sleep(for: .milliseconds(500))
        guard try await call("was_cancelled", .none) == true else { throw Failed(description: "it went on") }
        guard try await callStream("echo_stream", .positional([1])) == 1 else {
            throw Failed(description: "the stream is not good for another call")
        }
        return []
    }

    private func many() async throws -> [(String, JSON)] {
        for index in 0..<count {
            guard try await callStream("echo_stream", .positional([.int(index)])) == .int(index) else {
                throw Failed(description: "another answer")
            }
        }
        return [("calls", .integer(count))]
    }

    private func parallel() async throws -> [(String, JSON)] {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for index in 0..<count {
                group.addTask { try await call("echo", .positional([.int(index)])) == .int(index) }
                group.addTask { try await callStream("echo_stream", .positional([.int(index)])) == .int(index) }
            }
            for try await isRight in group where !isRight { throw Failed(description: "another answer") }
        }
        return [("calls", .integer(2 * count))]
    }
}
