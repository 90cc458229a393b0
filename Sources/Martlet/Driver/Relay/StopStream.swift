import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// A stream on which this relay asks a peer to take a circuit, and then the circuit itself (libp2p specs, relay/circuit-v2.md,
/// "Stop Protocol"). Confined to its connection's loop.
final class StopStream: StreamHandler, @unchecked Sendable {
    private enum State {
        case reading(PrefixedMessageReader)
        case open
        case done
    }

    private let end: CircuitEnd
    private let source: PeerID
    private let limit: ConnectionLimit?
    private var state = State.reading(PrefixedMessageReader.circuit())
    /// Called once, on the loop: nil when the peer took the circuit, else what its caller is to be told.
    private var onAnswer: (@Sendable (RelayRefusal?) -> Void)?
    private var timer: LoopTimer?

    init(
        end: CircuitEnd, source: PeerID, limit: ConnectionLimit?,
        onAnswer: @escaping @Sendable (RelayRefusal?) -> Void
    ) {
        self.end = end
        self.source = source
        self.limit = limit
        self.onAnswer = onAnswer
    }

    /// Opens the stream.
    ///
    /// - Parameter timeout: for the agreement on the protocol and the answer.
    func start(on driver: ConnectionDriver, timeout: Duration) {
        do {
            let stream = try driver.openStream([Circuit.stopProtocolID], handler: self)
            end.attach(stream)
            let timer = LoopTimer(loop: driver.loop) { [weak self, weak stream] in
                guard let self, let connection = stream?.connection, onAnswer != nil else { return }
                answered(RelayRefusal(status: .connectionFailed, reason: "no answer within \(timeout)"))
                // Perhaps the peer is gone, and nobody has noticed.
                connection.probe(now: end.loop.now)
                stream?.reset()
            }
            timer.schedule(at: driver.loop.now + timeout)
            self.timer = timer
        } catch {
            answered(RelayRefusal(status: .connectionFailed, reason: "no stream to the peer: \(error)"))
            end.close(isOrderly: false)
        }
    }

    private func answered(_ refusal: RelayRefusal?) {
        timer?.cancel()
        timer = nil
        onAnswer.take()?(refusal)
    }

    func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(StopMessage.connect(from: source, limit: limit).encoded))
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        switch state {
        case .reading(var reader): read(bytes, with: &reader, on: stream)
        case .open: end.received(bytes)
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
            let answer = try StopMessage(message)
            guard answer == .status(.ok) else {
                answered(RelayRefusal(ofTarget: answer))
                return stream.reset()
            }
        } catch {
            answered(RelayRefusal(status: .connectionFailed, reason: "the peer's answer cannot be read: \(error)"))
            return stream.fail("\(error)")
        }
        state = .open
        answered(nil)
        end.open()
        // What follows the answer belongs to the circuit.
        if !rest.isEmpty { end.received(rest) }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        switch state {
        case .reading:
            answered(RelayRefusal(status: .connectionFailed, reason: "the peer ended the stream without an answer"))
            stream.reset()
        case .open: end.remoteFinished()
        case .done: stream.reset()
        }
    }

    func streamWritable(_ stream: PeerStream) { end.writable() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        state = .done
        answered(RelayRefusal(status: .connectionFailed, reason: "the stream to the peer: \(reason)"))
        end.close(isOrderly: reason == .finished)
    }
}
