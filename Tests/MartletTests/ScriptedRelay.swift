import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm
import Synchronization

/// A relay made of a node's streams, which does what a test wants: mostly the right thing, now and then a wrong one.
final class ScriptedRelay: Sendable {
    /// What it does to whoever asks for a connection.
    enum Behaviour: Sendable {
        case relays(limit: ConnectionLimit? = nil)
        /// Resets both streams after so many bytes of either direction.
        case resets(afterBytes: Int, limit: ConnectionLimit?)
        /// Tells the target that this peer calls.
        case claims(PeerID)
        /// These bytes instead of an answer, then the end of the stream.
        case answers([UInt8])
        /// Resets the stream instead of an answer.
        case resetsBeforeAnswer
        case resetsAfterAnswer
    }

    let node: Node
    private let behaviour = Mutex(Behaviour.relays())
    private let nextBehaviours = Mutex<[Behaviour]>([])
    private let connectCount = Mutex(0)
    private let reservationAnswers = Mutex<[[UInt8]]>([])
    private let reservationCount = Mutex(0)

    init(_ configure: (inout NodeConfiguration) -> Void = { _ in }) async throws {
        node = try await NodePair.node(configure)
        node.handle(Circuit.hopProtocolID) { [weak self] stream in
            guard let self else { return }
            var talk = MessageStream(stream)
            switch try HopMessage(try await talk.message()) {
            case .reserve: try await reserve(talk)
            case .connect(let target): try await connect(talk, to: target)
            case .status: stream.reset()
            }
        }
    }

    var address: Multiaddr { node.listenAddresses[0] }

    /// The address of `peer` behind this relay.
    func circuit(to peer: PeerID) throws -> Multiaddr {
        try address.encapsulating(.p2pCircuit).encapsulating(peer: peer)
    }

    func behave(_ behaviour: Behaviour) { self.behaviour.withLock { $0 = behaviour } }

    /// What it does to the next who ask, before it goes on as it was told.
    func behaveFirst(_ behaviours: Behaviour...) { nextBehaviours.withLock { $0 = behaviours } }

    /// How often it was asked for a connection.
    var connects: Int { connectCount.withLock(\.self) }

    /// The answers to the next requests for a reservation, before the ordinary ones.
    func answerReservations(_ answers: [[UInt8]]) { reservationAnswers.withLock { $0 = answers } }

    var reservations: Int { reservationCount.withLock(\.self) }

    private func reserve(_ talk: MessageStream) async throws {
        reservationCount.withLock { $0 += 1 }
        let scripted: [UInt8]? = reservationAnswers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        let now = UInt64(WallTime.systemNow().nanosecondsSince1970 / 1_000_000_000)
        let reservation = CircuitReservation(expiration: now + 3600, addresses: [address], voucher: nil)
        try await talk.send(scripted ?? HopMessage.status(.ok, reservation: reservation).encoded)
    }

    private func connect(_ talk: MessageStream, to target: PeerID) async throws {
        connectCount.withLock { $0 += 1 }
        let scripted: Behaviour? = nextBehaviours.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        let behaviour = scripted ?? behaviour.withLock(\.self)
        var limit: ConnectionLimit?
        var caller = talk.stream.peer
        switch behaviour {
        case .answers(let bytes): return try await talk.send(bytes)
        case .resetsBeforeAnswer: return talk.stream.reset()
        case .relays(let named), .resets(_, let named): limit = named
        case .claims(let peer): caller = peer
        case .resetsAfterAnswer: break
        }
        var stop = MessageStream(try await node.openStream(to: target, protocol: Circuit.stopProtocolID))
        try await stop.send(StopMessage.connect(from: caller, limit: limit).encoded)
        guard case .status(let status) = try StopMessage(try await stop.message()) else { return talk.stream.reset() }
        try await talk.send(HopMessage.status(status, limit: limit).encoded)
        guard status == .ok else { return }
        if case .resetsAfterAnswer = behaviour {
            talk.stream.reset()
            return stop.stream.reset()
        }
        var budget = Int.max
        if case .resets(let count, _) = behaviour { budget = count }
        await splice(talk, stop, budget)
    }

    private func splice(_ left: MessageStream, _ right: MessageStream, _ budget: Int) async {
        await withTaskGroup(of: Void.self) { group in
            for (from, to) in [(left, right), (right, left)] {
                group.addTask {
                    var from = from
                    var left = budget
                    do {
                        while let bytes = try await from.read() {
                            left -= bytes.count
                            guard left >= 0 else { break }
                            try await to.stream.write(bytes)
                        }
                        if left >= 0 { return try await to.stream.finish() }
                    } catch {}
                    from.stream.reset()
                    to.stream.reset()
                }
            }
        }
    }
}

/// A stream that begins with messages of circuit relay and goes on with anything.
struct MessageStream: Sendable {
    let stream: MeshStream
    private var reader = PrefixedMessageReader.circuit()
    private var rest = Bytes()

    init(_ stream: MeshStream) { self.stream = stream }

    func send(_ bytes: [UInt8]) async throws { try await stream.write(Bytes(bytes)) }

    mutating func message() async throws -> [UInt8] {
        while true {
            if let message = try reader.next(from: &rest) { return message }
            guard let bytes = try await stream.read() else { throw MartletError(.streamEnded, "no message") }
            rest = bytes
        }
    }

    mutating func read() async throws -> Bytes? {
        guard rest.isEmpty else { return rest.takeFirst(rest.count) }
        return try await stream.read()
    }
}
