import Martlet
import MartletCore
import MartletIdentity
import Synchronization

/// The serving half of Interop/README.md.
final class Listening: Sendable {
    private let node: Node
    /// How the last stream that its dialer was to end ended; nil while that is not known.
    private let lastEnd = Mutex<String?>(nil)

    init(node: Node) {
        self.node = node
        node.handle(Wire.echo) { stream in
            while let bytes = try await stream.read() { try await stream.write(bytes) }
        }
        node.handle(Wire.halfClose) { stream in
            try await stream.write(Bytes(SHA256.hash(try await stream.readToEnd()).bytes))
        }
        LatticaService.serve(node)
        CallsInFlight.serve(node)
        node.handle(Wire.reset) { [self] stream in try await serveReset(stream) }
    }

    private func serveReset(_ stream: MeshStream) async throws {
        switch try await stream.read(exactly: 1) {
        case Array("s".utf8):
            stream.reset()
        case Array("d".utf8):
            lastEnd.withLock { $0 = nil }
            try await stream.write(Bytes(utf8: "k"))
            do {
                _ = try await stream.readToEnd()
                lastEnd.withLock { $0 = "eof" }
            } catch {
                lastEnd.withLock { $0 = "reset" }
            }
        default:
            for _ in 0..<500 where lastEnd.withLock({ $0 }) == nil { try await Task.sleep(for: .milliseconds(10)) }
            try await stream.write(Bytes(utf8: lastEnd.withLock { $0 ?? "unknown" }))
        }
    }

    /// Prints where the node is, then answers `identify PEER` lines until standard input ends.
    func run() async {
        say([
            ("event", .string("ready")), ("peer", .string("\(node.peerID)")),
            ("addrs", .list(node.listenAddresses.map { .string("\($0)") })),
        ])
        while let line = readLine() {
            let words = line.split(separator: " ")
            guard words.count == 2, words[0] == "identify", let peer = try? PeerID(String(words[1])) else { continue }
            await report("identify") { [node] in try await IdentifyQuestion.ask(node, peer) }
        }
    }
}
