import DequeModule
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// A stream on which a peer asks this relay for something: one request, its answer, and after a `CONNECT` the circuit itself
/// (libp2p specs, relay/circuit-v2.md, "Hop Protocol"). Confined to its connection's loop.
final class HopStream: StreamHandler, @unchecked Sendable {
    private enum State {
        case reading(PrefixedMessageReader)
        /// The request is with the relay, or the circuit being made.
        case deciding
        /// The stream is the circuit.
        case open
        /// Answered, or over.
        case done
    }

    let loop: EventLoop
    let client: RelayClient
    private let service: RelayService
    private var state = State.reading(PrefixedMessageReader.circuit())
    private var stream: PeerStream?
    private var end: CircuitEnd?
    /// What the peer sent behind its request, or before the circuit was open. Its window bounds it.
    private var early: Deque<Bytes> = []
    private var isRemoteFinished = false

    init(service: RelayService, loop: EventLoop, client: RelayClient) {
        self.service = service
        self.loop = loop
        self.client = client
    }

    // MARK: The stream

    func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        stream.startDeadline()
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        switch state {
        case .reading(var reader): read(bytes, with: &reader, on: stream)
        case .deciding: early.append(bytes)
        case .open: end?.received(bytes)
        case .done: stream.consumed(bytes.count)
        }
    }

    private func read(_ bytes: Bytes, with reader: inout PrefixedMessageReader, on stream: PeerStream) {
        var rest = bytes
        do {
            let message = try reader.next(from: &rest)
            state = .reading(reader)
            stream.consumed(bytes.count - rest.count)
            guard let message else { return }
            let request = try HopMessage(message)
            state = .deciding
            if !rest.isEmpty { early.append(rest) }
            switch request {
            case .reserve: service.reserve(self)
            case .connect(let target): service.connect(self, to: target)
            case .status: refuse(.unexpectedMessage)
            }
        } catch {
            refuse(.malformedMessage)
        }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        switch state {
        case .reading, .done: stream.finish()
        case .deciding: isRemoteFinished = true
        case .open: end?.remoteFinished()
        }
    }

    func streamWritable(_ stream: PeerStream) { end?.writable() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        state = .done
        self.stream = nil
        early = []
        end.take()?.close(isOrderly: reason == .finished)
    }

    // MARK: Answers, on the loop

    /// Grants a reservation.
    func granted(_ reservation: CircuitReservation, limit: ConnectionLimit?) {
        stream?.connection?.restingKeepAlive = service.keepAlive
        answer(.status(.ok, reservation: reservation, limit: limit))
    }

    /// The circuit is being made, and ends with this stream.
    func connecting(_ end: CircuitEnd) {
        guard case .deciding = state, let stream else { return end.close(isOrderly: false) }
        self.end = end
        // The stop stream has a deadline of its own.
        stream.clearDeadline()
        end.attach(stream)
    }

    /// The other peer accepts: the stream is the circuit from here on.
    func accepted(limit: ConnectionLimit?) {
        guard case .deciding = state, let stream, let end else { return }
        // A reset would overtake the answer: better no than yes and nothing behind it.
        guard !end.isCutOff else { return refuse(.connectionFailed) }
        state = .open
        stream.connection?.advance(to: loop.now)
        stream.send(Bytes(HopMessage.status(.ok, limit: limit).encoded))
        end.open()
        while let bytes = early.popFirst() { end.received(bytes) }
        if isRemoteFinished { end.remoteFinished() }
    }

    /// Says no. The stream ends when the peer has read that.
    func refuse(_ status: CircuitStatus) {
        service.statistics.refusal()
        let end = end.take()
        answer(.status(status))
        end?.close(isOrderly: false)
    }

    private func answer(_ message: HopMessage) {
        switch state {
        case .reading, .deciding: break
        case .open, .done: return
        }
        state = .done
        guard let stream else { return }
        stream.connection?.advance(to: loop.now)
        while let bytes = early.popFirst() { stream.consumed(bytes.count) }
        stream.send(Bytes(message.encoded))
        stream.finish()
        stream.startDeadline()
    }
}
