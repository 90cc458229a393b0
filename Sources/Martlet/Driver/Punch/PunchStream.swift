import MartletCore
import MartletReachability
import MartletRuntime
import MartletSwarm

/// The stream over a relayed connection on which two nodes agree on a punch: carries bytes between the connection's loop and the
/// home loop, where the punch runs.
final class PunchStream: StreamHandler, @unchecked Sendable {
    enum Event: Sendable {
        case received(Bytes)
        case closed(StreamCloseReason)
    }

    let method: PunchReport.Method
    private let loop: EventLoop
    private let home: EventLoop
    /// Confined to the loop.
    private var stream: PeerStream?
    private var unsent: [[UInt8]] = []
    private var isFinishing = false
    private var isOver = false
    private let onOpen: (PunchStream) -> Void
    /// Confined to the home loop, with what came before it was set.
    private var onEvent: ((Event) -> Void)?
    private var early: [Event] = []

    /// - Parameter onOpen: called on the connection's loop when the protocol is agreed on.
    init(
        _ method: PunchReport.Method, loop: EventLoop, home: EventLoop,
        onOpen: @escaping (PunchStream) -> Void = { _ in }
    ) {
        self.method = method
        self.loop = loop
        self.home = home
        self.onOpen = onOpen
    }

    // MARK: On the home loop

    /// Has events come to `body` from now on, those that came before included.
    func listen(_ body: @escaping (Event) -> Void) {
        onEvent = body
        let events = early
        early = []
        for event in events { body(event) }
    }

    func send(_ bytes: [UInt8]) {
        loop.execute { [self] in
            if let stream { stream.send(Bytes(bytes)) } else if !isOver { unsent.append(bytes) }
        }
    }

    func finish() {
        onEvent = { _ in }
        loop.execute { [self] in
            isFinishing = true
            stream?.finish()
            stream?.startDeadline()
        }
    }

    func reset() {
        onEvent = { _ in }
        loop.execute { [self] in stream?.reset() }
    }

    /// The connection could not even open a stream.
    func failed(_ reason: String) { tell(.closed(.connectionClosed(reason))) }

    // MARK: On the connection's loop

    private func tell(_ event: Event) {
        home.execute { [self] in
            if let onEvent { onEvent(event) } else { early.append(event) }
        }
    }

    func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        for bytes in unsent { stream.send(Bytes(bytes)) }
        unsent = []
        if isFinishing { stream.finish() }
        onOpen(self)
    }

    func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        tell(.received(bytes.compacted()))
    }

    func streamRemoteFinished(_ stream: PeerStream) { stream.finish() }

    func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) {
        isOver = true
        self.stream = nil
        unsent = []
        tell(.closed(reason))
    }
}
