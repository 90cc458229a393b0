import MartletCore
import MartletIdentity
import MartletRPC
import Synchronization

/// One streaming call to a Lattica node, on a stream of its own. For one task at a time.
///
/// Nothing is read from the stream but when somebody asks for what comes next: so a slow reader slows the peer, by way of the
/// stream's window. A call that is dropped before its end is cancelled.
final class LatticaOutboundCall: Sendable {
    private enum Stage {
        /// The argument is being sent.
        case sending
        case open
        case over
    }

    private let id: String
    private let state: LatticaState
    private let peer: LatticaPeer
    private let substream: LatticaSubstream
    private let limits: LatticaLimits
    private let stage = Mutex(Stage.sending)

    private init(
        id: String, state: LatticaState, peer: LatticaPeer, substream: LatticaSubstream, limits: LatticaLimits
    ) {
        self.id = id
        self.state = state
        self.peer = peer
        self.substream = substream
        self.limits = limits
    }

    deinit { cancel() }

    /// Begins a call: resumes when the argument was handed over.
    ///
    /// - Parameter hasBegun: set before the first byte is handed over.
    /// - Throws: `RPCError` or `CancellationError`.
    static func begin(
        _ kind: LatticaStreamClient.Kind, _ node: Node, _ peerID: PeerID, _ method: String, _ argument: RPCMessage,
        _ hasBegun: LatticaFlag
    ) async throws -> LatticaOutboundCall {
        let state = node.latticaState
        let limits = state.limits
        let peer = state.enter(peerID)
        let call: LatticaOutboundCall
        do {
            try await peer.streams.enter()
            do {
                let substream = try await stream(node, peer, limits)
                call = LatticaOutboundCall(
                    id: state.makeCallID(), state: state, peer: peer, substream: substream, limits: limits)
            } catch {
                peer.streams.leave()
                throw error
            }
        } catch {
            state.leave(peer)
            throw LatticaFailure.error(error, .notSent)
        }
        do {
            let frames = call.substream.machine.withLock {
                $0.call(kind, id: call.id, method: method, argument: argument)
            }
            hasBegun.set()
            for frame in frames { try await call.substream.send(frame) }
            call.stage.withLock { $0 = .open }
            return call
        } catch {
            // A Lattica node runs a handler with the part of its argument that it has when the stream is lost.
            call.end(isStreamIntact: false)
            throw LatticaFailure.error(error, .maybeExecuted)
        }
    }

    private static func stream(_ node: Node, _ peer: LatticaPeer, _ limits: LatticaLimits) async throws
        -> LatticaSubstream
    {
        if let free = peer.takeStream() { return free }
        try await peer.opening.enter()
        defer { peer.opening.leave() }
        if let free = peer.takeStream() { return free }
        var attempt = 0
        while true {
            attempt += 1
            let stream = try await node.openStream(to: peer.id, protocol: NodeLattica.streamProtocol)
            do {
                let substream = LatticaSubstream(stream, limits: limits)
                try await substream.prove(node.latticaState.makeCallID())
                return substream
            } catch let error as MartletError
                where attempt < openingAttempts && (error.code == .streamReset || error.code == .streamEnded)
            {
                stream.reset()
                try await Task.sleep(for: .milliseconds(10 << attempt))
            } catch {
                stream.reset()
                throw error
            }
        }
    }

    /// How often a stream is opened that the peer drops at once.
    private static let openingAttempts = 5

    /// The next event of the call, waiting for it; after the last, and after an error, the call is over.
    func next() async throws -> LatticaStreamClient.Event {
        do {
            let event = try await nextEvent()
            switch event {
            case .item: break
            case .result, .ended, .failed, .cancelled: end(isStreamIntact: true)
            // The peer goes on sending what nobody wants.
            case .tooLong: end(isStreamIntact: false)
            }
            return event
        } catch let error as CancellationError {
            cancel()
            throw error
        } catch {
            end(isStreamIntact: false)
            throw LatticaFailure.error(error, .maybeExecuted)
        }
    }

    private func nextEvent() async throws -> LatticaStreamClient.Event {
        while true {
            if let event = substream.machine.withLock({ $0.nextEvent() }) { return event }
            guard let bytes = try await substream.stream.read() else {
                throw RPCError(.unavailable, "the peer ended the stream before it had answered")
            }
            try substream.machine.withLock { machine throws(LatticaError) in try machine.received(bytes) }
        }
    }

    /// Whether the next event is there already, so that nobody has to wait for it.
    var hasEvent: Bool { substream.machine.withLock { $0.hasEvent } }

    // MARK: Ending

    private func end(isStreamIntact: Bool) {
        guard takeEnd() != .over else { return }
        Self.release(substream, peer, state, isStreamIntact: isStreamIntact)
    }

    /// The stage the call was in; from now on it is over.
    private func takeEnd() -> Stage {
        stage.withLock { stage in
            defer { stage = .over }
            return stage
        }
    }

    private static func release(
        _ substream: LatticaSubstream, _ peer: LatticaPeer, _ state: LatticaState, isStreamIntact: Bool
    ) {
        if isStreamIntact { peer.putBack(substream) } else { substream.stream.reset() }
        peer.streams.leave()
        state.leave(peer)
    }

    /// Gives the call up at once. The peer is told, and its stream waits for it to say that it is done before another call
    /// uses it.
    func cancel() {
        switch takeEnd() {
        case .over: break
        case .sending: Self.release(substream, peer, state, isStreamIntact: false)
        case .open:
            guard let frame = substream.machine.withLock({ $0.cancel(id) }) else {
                return Self.release(substream, peer, state, isStreamIntact: true)
            }
            Task { [substream, peer, state, limits] in
                let isDone = try? await withLatticaTimeout(limits.cancellationTimeout) {
                    try await substream.send(frame)
                    try await Self.readToEnd(substream)
                    return true
                }
                Self.release(substream, peer, state, isStreamIntact: isDone ?? false)
            }
        }
    }

    private static func readToEnd(_ substream: LatticaSubstream) async throws {
        while substream.machine.withLock({ $0.callCount }) > 0 {
            guard let bytes = try await substream.stream.read() else { throw MartletError(.streamEnded, "ended") }
            try substream.machine.withLock { machine throws(LatticaError) in
                try machine.received(bytes)
                while machine.nextEvent() != nil {}
            }
        }
    }
}
