import Martlet
import MartletCore
import Testing

/// Nodes over real sockets on the loopback interface.
struct NodePair {
    let a: Node
    let b: Node

    init(a: Node, b: Node) {
        self.a = a
        self.b = b
    }

    init(_ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }) async throws {
        b = try await Self.node(configure)
        a = try await Self.node(configure)
    }

    static func node(_ configure: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
        try await Node.start { configuration in
            configuration.listenAddresses = [try Multiaddr("/ip4/127.0.0.1/tcp/0")]
            configuration.loopCount = 2
            configure(&configuration)
        }
    }

    func connect() async throws {
        try await a.connect(to: b.listenAddresses[0])
    }

    func stop() async {
        await a.stop()
        await b.stop()
    }
}

func serveEcho(_ node: Node) {
    node.handle("/echo/1") { stream in
        while let bytes = try await stream.read() { try await stream.write(bytes) }
    }
}

/// What holds over every transport.
extension NodePair {
    /// Many megabytes come back from an echo as they were sent.
    func checkEcho(byteCount total: Int) async throws {
        serveEcho(b)
        let stream = try await a.openStream(to: b.peerID, protocol: "/echo/1")
        let writer = Task {
            var random = RandomSource(seed: 5)
            var sent = 0
            while sent < total {
                let size = min(total - sent, Int.random(in: 1...200_000, using: &random))
                try await stream.write(Bytes((0..<size).map { UInt8(truncatingIfNeeded: (sent + $0) &* 31) }))
                sent += size
            }
            try await stream.finish()
        }
        var received = 0
        var isExact = true
        while let bytes = try await stream.read() {
            bytes.withUnsafeBytes { buffer in
                for (index, byte) in buffer.enumerated()
                where byte != UInt8(truncatingIfNeeded: (received + index) &* 31) { isExact = false }
            }
            received += bytes.count
        }
        try await writer.value
        #expect(received == total)
        #expect(isExact)
    }

    /// A hundred streams at once, each with bytes of its own.
    func checkManyStreams() async throws {
        serveEcho(b)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for index in 0..<100 {
                group.addTask {
                    let stream = try await a.openStream(to: b.peerID, protocol: "/echo/1")
                    let message = [UInt8](repeating: UInt8(index), count: 10_000 + index)
                    try await stream.write(Bytes(message))
                    try await stream.finish()
                    let answer = try await stream.read(exactly: message.count)
                    let end = try await stream.read()
                    return answer == message && end == nil
                }
            }
            for try await isExact in group { #expect(isExact) }
        }
    }
}
