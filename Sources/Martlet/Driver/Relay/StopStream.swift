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
    /// Called once, on the loop: whether the peer took the circuit.
    private var onAnswer: (@Sendable (Bool) -> Void)?

    init(
        end: CircuitEnd, source: PeerID, limit: ConnectionLimit?, onAnswer: @escaping @Sendable (Bool) -> Void
    ) {
        self.end = end
        self.source = source
        self.limit = limit
        self.onAnswer = onAnswer
    }

    /// Opens the stream.
    func start(on driver: ConnectionDriver) {
        do {
            let stream = try driver.openStream([Circuit.stopProtocolID], handler: self)
            end.attach(stream)
        } catch {
            onAnswer.take()?(false)
            end.close(isOrderly: false)
        }
    }

    func streamOpened(_ stream: PeerStream) {
        stream.send(Bytes(StopMessage.connect(from: source, limit: limit).encoded))
        // Until the answer is there.
        stream.startDeadline()
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
            guard case .status(.ok) = try StopMessage(message) else { return stream.reset() }
        } catch {
            return stream.fail("\(error)")
        }
        state = .open
        stream.clearDeadline()
        onAnswer.take()?(true)
        end.open()
        // What follows the answer belongs to the circuit.
        if !rest.isEmpty { end.received(rest) }
    }

    func streamRemoteFinished(_ stream: PeerStream) {
        switch state {
        case .reading, .done: stream.reset()
        case .open: end.remoteFinished()
        }
    }

    func streamWritable(_ stream: PeerStream) { end.writable() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        state = .done
        onAnswer.take()?(false)
        end.close(isOrderly: reason == .finished)
    }
}
