import Martlet
import MartletCore
import MartletRPC
import Synchronization

/// The services that Lattica nodes call: `Interop` with bytes as they are, `Calls` with pickled values, as
/// peers/lattica_rpc_peer.py has it.
enum LatticaService {
    static func serve(_ node: Node) {
        node.lattica.serve("Interop") { service in
            service.unary("echo") { request, _ in request }
            service.unary("echo_stream") { request, _ in request }
            service.unary("digest") { request, _ in RPCMessage(Bytes(SHA256.hash(request.contiguous().array).bytes)) }
        }
        let cancelled = Counter()
        node.lattica.serve("Calls") { service in
            service.unary("echo") { request, _ in try echo(request) }
            service.unary("echo_stream") { request, _ in try echo(request) }
            service.unary("pair") { request, _ in try pair(request) }
            service.unary("nothing") { _, _ in RPCMessage() }
            service.unary("fail") { request, _ in throw try failure(request) }
            service.unary("fail_stream") { request, _ in throw try failure(request) }
            service.unary("was_cancelled") { _, _ in
                for _ in 0..<500 where cancelled.value == 0 { try await Task.sleep(for: .milliseconds(10)) }
                return RPCMessage(try PickleValue.bool(cancelled.value > 0).pickled())
            }
            service.serverStreaming("count") { request, writer, _ in
                for index in 0..<(try value(request).int ?? 0) {
                    try await writer.write(RPCMessage(utf8: "item \(index)"))
                }
            }
            service.serverStreaming("endless") { _, writer, _ in
                defer { cancelled.add() }
                while true { try await writer.write(RPCMessage(Bytes([UInt8](repeating: 0x78, count: 1000)))) }
            }
        }
    }

    private static func value(_ request: RPCMessage) throws -> PickleValue {
        try LatticaArguments.decodeResult(request.contiguous())
    }

    private static func echo(_ request: RPCMessage) throws -> RPCMessage {
        RPCMessage(try LatticaArguments.encodeResult(value(request)))
    }

    private static func pair(_ request: RPCMessage) throws -> RPCMessage {
        let arguments = try LatticaArguments(decoding: request.contiguous(), parameterCount: 2)
        let (a, b): (PickleValue?, PickleValue?) =
            if case .positional(let values) = arguments, values.count == 2 { (values[0], values[1]) } else {
                (arguments["a"], arguments["b"])
            }
        guard let a, let b else { throw RPCError(.invalidArgument, "pair takes a and b") }
        return RPCMessage(try LatticaArguments.encodeResult(["a": a, "b": b]))
    }

    private static func failure(_ request: RPCMessage) throws -> RPCError {
        RPCError(.notFound, "no model called \(try value(request).string ?? "")")
    }
}

/// How often something happened.
private final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { count.load(ordering: .acquiring) }
    func add() { count.add(1, ordering: .releasing) }
}
