import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm
import Testing

/// A relay and two peers that speak to it message by message.
struct RelayTrio {
    let relay: Node
    let source: Node
    let target: Node

    init(
        at place: String = "/ip4/127.0.0.1/tcp/0", _ change: @escaping (inout RelayConfiguration) -> Void = { _ in }
    ) async throws {
        let place = try Multiaddr(place)
        relay = try await NodePair.node { configuration in
            configuration.listenAddresses = [place]
            var relay = RelayConfiguration()
            change(&relay)
            configuration.relay = relay
        }
        source = try await NodePair.node()
        target = try await NodePair.node()
        try await source.connect(to: relay.listenAddresses[0])
        try await target.connect(to: relay.listenAddresses[0])
    }

    func stop() async {
        await source.stop()
        await target.stop()
        await relay.stop()
    }

    /// Has the target accept circuits and hand them to `body`.
    func serve(_ body: @escaping @Sendable (MessageStream) async throws -> Void) {
        target.handle(Circuit.stopProtocolID) { stream in
            var talk = MessageStream(stream)
            guard case .connect = try StopMessage(try await talk.message()) else { return }
            try await talk.send(StopMessage.status(.ok).encoded)
            try await body(talk)
        }
    }

    /// Has the target do `body` with whoever is announced to it.
    func onAnnouncement(_ body: @escaping @Sendable (MessageStream) async throws -> Void) {
        target.handle(Circuit.stopProtocolID) { stream in
            var talk = MessageStream(stream)
            _ = try await talk.message()
            try await body(talk)
        }
    }

    func serveEcho() {
        serve { talk in
            var talk = talk
            while let bytes = try await talk.read() { try await talk.stream.write(bytes) }
        }
    }

    func reserve() async throws -> CircuitReservation {
        let answer = try await ask(target, .reserve).0
        guard case .status(.ok, let reservation?, _) = answer else { throw RelayAnswered(answer) }
        return reservation
    }

    /// Asks for a circuit to the target.
    func circuit() async throws -> MessageStream {
        let (answer, talk) = try await ask(source, .connect(to: target.peerID))
        guard case .status(.ok, _, _) = answer else { throw RelayAnswered(answer) }
        return talk
    }

    func ask(_ node: Node, _ request: HopMessage) async throws -> (HopMessage, MessageStream) {
        try await ask(node, request.encoded)
    }

    func ask(_ node: Node, _ request: [UInt8]) async throws -> (HopMessage, MessageStream) {
        var talk = MessageStream(try await node.openStream(to: relay.peerID, protocol: Circuit.hopProtocolID))
        try await talk.send(request)
        return (try HopMessage(try await talk.message()), talk)
    }

    func refusal(_ node: Node, _ request: [UInt8]) async throws -> CircuitStatus? {
        guard case .status(let status, _, _) = try await ask(node, request).0 else { return nil }
        return status
    }

    /// Waits until the relay's books say so.
    func waitUntil(_ condition: (RelayStatus) -> Bool) async throws {
        while true {
            let status = try #require(try await relay.relayStatus())
            if condition(status) { return }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}

/// The relay answered something else than was wanted.
struct RelayAnswered: Error {
    let answer: HopMessage
    init(_ answer: HopMessage) { self.answer = answer }
}

extension MessageStream {
    /// Reads to the end.
    mutating func readAll() async throws -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = try await read() { all += bytes.array }
        return all
    }
}
