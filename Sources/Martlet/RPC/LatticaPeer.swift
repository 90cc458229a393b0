import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// What calls to one peer share: how many there may be, and the streams that are open and free.
///
/// A streaming call has a stream to itself, so that a slow reader slows its own call only. Streams are used again: a Lattica
/// node keeps what belongs to a stream for as long as its connection lasts.
final class LatticaPeer: Sendable {
    private struct State {
        var free: [LatticaSubstream] = []
        var users = 0
    }

    let id: PeerID
    let unaryCalls: LatticaGate
    let streams: LatticaGate
    /// Streams are opened one after the other: a Lattica node drops those that come faster than it takes them.
    let opening = LatticaGate(limit: 1)
    private let state = Mutex(State())

    init(id: PeerID, limits: LatticaLimits) {
        self.id = id
        unaryCalls = LatticaGate(limit: max(1, limits.outboundUnaryCalls))
        streams = LatticaGate(limit: max(1, limits.outboundStreams))
    }

    func addUser() { state.withLock { $0.users += 1 } }

    /// True when nobody uses it any more and nothing is kept.
    func removeUser() -> Bool {
        state.withLock { $0.users -= 1 }
        return isForgettable()
    }

    /// True when nobody uses it and nothing is kept, or only streams that are over.
    func isForgettable() -> Bool {
        state.withLock { state in
            guard state.users == 0 else { return false }
            state.free.removeAll { !$0.isUsable() }
            return state.free.isEmpty
        }
    }

    /// A stream that nobody uses; nil when one is to be opened.
    func takeStream() -> LatticaSubstream? {
        while let stream = state.withLock({ $0.free.popLast() }) {
            if stream.isUsable() { return stream }
        }
        return nil
    }

    func putBack(_ stream: LatticaSubstream) { state.withLock { $0.free.append(stream) } }
}

/// One outbound stream of the stream protocol.
final class LatticaSubstream: Sendable {
    let stream: MeshStream
    let machine: Mutex<LatticaStreamClient>

    init(_ stream: MeshStream, limits: LatticaLimits) {
        self.stream = stream
        machine = Mutex(LatticaStreamClient(limits: limits))
    }

    /// Whether another call can be made on it. Takes in what came while it was free, such as the late end of a call.
    func isUsable() -> Bool {
        while true {
            switch stream.takeArrival() {
            case .none: return true
            case .end, .failed: return false
            case .bytes(let bytes):
                guard (try? machine.withLock { machine throws(LatticaError) in try machine.received(bytes) }) != nil
                else {
                    stream.reset()
                    return false
                }
            }
        }
    }

    /// Waits until the peer has shown that it took the stream.
    ///
    /// - Throws: `MartletError` with `.streamReset` or `.streamEnded` when it did not: then nothing has run.
    func prove(_ id: String) async throws {
        try await send(machine.withLock { $0.probe(id: id) })
        while machine.withLock({ $0.nextEvent() }) == nil {
            guard let bytes = try await stream.read() else {
                throw MartletError(.streamEnded, "the peer ended the stream at once")
            }
            try machine.withLock { machine throws(LatticaError) in try machine.received(bytes) }
        }
    }

    /// Sends a frame. When it throws, the stream may have been left inside of it.
    func send(_ frame: LatticaStreamFrame) async throws {
        for piece in frame.encoded.pieces { try await stream.write(piece) }
    }
}
