import Martlet

/// Two nodes in one program: one serves a protocol of its own and shares a file, the other uses both.
@main
struct TwoNodes {
    static func main() async throws {
        // A node that others can reach, with a protocol: every stream is handled by a task of its own.
        let server = try await Node.start { $0.listenAddresses = [try Multiaddr("/ip4/127.0.0.1/tcp/0")] }
        server.handle("/echo/1.0.0") { stream in
            while let bytes = try await stream.read() { try await stream.write(bytes) }
        }
        print("listening at \(server.listenAddresses[0])")

        // A node that only dials. The address ends in the peer id, so nobody else can answer for it.
        let client = try await Node.start { _ in }
        let peer = try await client.connect(to: server.listenAddresses[0])
        print("round trip \(try await client.ping(peer)[0])")

        // A stream: written, finished, and read to its end.
        let stream = try await client.openStream(to: peer, protocol: "/echo/1.0.0")
        try await stream.write(Bytes(utf8: "hello, mesh"))
        try await stream.finish()
        while let bytes = try await stream.read() { print("echo: \(String(decoding: bytes.array, as: UTF8.self))") }

        // A file, shared from where it lies and fetched by its CID, every piece verified. This program will do.
        let shared = try await server.share(CommandLine.arguments[0])
        let copy = "/tmp/two-nodes-copy"
        let summary = try await client.fetch(shared.root, to: copy, from: server.listenAddresses)
        print("\(shared.root): \(summary.size) bytes verified and in \(copy)")

        await client.stop()
        await server.stop()
    }
}
