import Martlet

/// One node offers a model as a service, another calls it: once, as a stream of tokens, and with a deadline.
@main
struct RemoteCalls {
    static func main() async throws {
        let worker = try await Node.start { $0.listenAddresses = [try Multiaddr("/ip4/127.0.0.1/tcp/0")] }
        let client = try await Node.start { _ in }
        let allowed = client.peerID

        worker.rpc.register("Model") { service in
            // Only the node that we know may call it.
            service.unary("forward", authorize: .peers([allowed])) { activations, _ in
                RPCMessage(activations.contiguous(), tensor: activations.tensor)
            }
            service.serverStreaming("generate") { prompt, writer, _ in
                for word in prompt.text.split(separator: " ") { try await writer.write(RPCMessage(utf8: "\(word)")) }
            }
            service.unary("sleep") { _, _ in
                try await Task.sleep(for: .seconds(60))
                return RPCMessage()
            }
        }

        let peer = try await client.connect(to: worker.listenAddresses[0])
        for method in try await client.services(of: peer) { print("offered: \(method.path) (\(method.kind))") }

        // A tensor there and back. Its bytes are not copied on the way to the cipher.
        let tensor = Bytes(count: 2 * 8192) { $0.initializeMemory(as: UInt8.self, repeating: 1) }
        let reply = try await client.call(
            peer, "Model.forward", RPCMessage(tensor, tensor: TensorDescription(.bfloat16, [1, 8192])))
        print("forward: \(reply.byteCount) bytes, \(reply.tensor.map { "\($0)" } ?? "no tensor")")

        // Answers as they come. A slow reader slows the worker.
        let call = try await client.openCall(peer, "Model.generate", RPCMessage(utf8: "one token after another"))
        for try await token in call { print("token: \(token.text)") }

        // An error says what is known of the call: not sent, perhaps run, or run.
        do {
            _ = try await client.call(peer, "Model.sleep", options: RPCCallOptions(deadline: .milliseconds(100)))
        } catch let error as RPCError {
            print("sleep: \(error.code), \(error.outcome)")
        }

        await client.stop()
        await worker.stop()
    }
}
