import MartletConnection
public import MartletCore
public import MartletIdentity
public import MartletSwarm

/// An address to dial for a peer, and what to say there.
public struct DialBackRequest: Hashable, Sendable {
    public let peer: PeerID
    public let address: Multiaddr
    public let nonce: UInt64
    /// How long to wait first.
    public let delay: Duration
    /// The address that the peer is connected from.
    public let remoteAddress: Multiaddr
}

/// Serves one dial request: chooses an address, takes data when it is not the peer's own, has it dialed and answers.
public final class AutoNATRequestHandler: StreamHandler {
    /// Dials and calls back on the connection's loop.
    public typealias Dial = (DialBackRequest, _ completed: @escaping (DialBackOutcome) -> Void) -> Void

    private enum State {
        case waitingForRequest
        case takingData(index: UInt32, DialBackRequest, remaining: Int)
        case dialing
        case done
    }

    private let server: AutoNATServer
    private let dial: Dial
    private var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit, field: "AutoNAT message")
    private var state = State.waitingForRequest

    public init(server: AutoNATServer, dial: @escaping Dial) {
        self.server = server
        self.dial = dial
    }

    public func streamOpened(_ stream: PeerStream) { stream.startDeadline() }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        var bytes = bytes
        do {
            while stream.isOpen, let message = try reader.next(from: &bytes) {
                try receive(AutoNATMessage(message), on: stream)
            }
        } catch {
            state = .done
            stream.fail("AutoNAT: \(error)")
        }
    }

    private func receive(_ message: AutoNATMessage, on stream: PeerStream) throws(DecodingError) {
        switch state {
        case .waitingForRequest:
            guard case .dialRequest(let addresses, let nonce) = message else {
                throw .invalid(field: "AutoNAT message", reason: "a dial request was to come first")
            }
            begin(addresses, nonce, stream)
        case .takingData(let index, let request, let remaining):
            guard case .dialData(let count) = message else {
                throw .invalid(field: "AutoNAT message", reason: "data was to come")
            }
            // Tiny pieces would cost us more than the peer.
            guard count <= AutoNAT.dialDataPieceLimit, count >= min(AutoNAT.smallestDialDataPiece, remaining) else {
                throw .invalid(field: "AutoNAT data", reason: "a piece of \(count) bytes")
            }
            if count >= remaining {
                start(index, request, stream)
            } else {
                state = .takingData(index: index, request, remaining: remaining - count)
                stream.startDeadline()
            }
        case .dialing, .done: throw .invalid(field: "AutoNAT message", reason: "more than was asked for")
        }
    }

    private func begin(_ addresses: [Multiaddr?], _ nonce: UInt64, _ stream: PeerStream) {
        guard let connection = stream.connection, let peer = connection.remote?.peerID else { return }
        let remoteAddress = connection.remoteAddress
        switch server.decide(addresses, of: peer, at: remoteAddress, now: connection.now) {
        case .dial(let index, let address):
            let request = DialBackRequest(
                peer: peer, address: address, nonce: nonce, delay: .zero, remoteAddress: remoteAddress)
            start(UInt32(index), request, stream)
        case .dialAfterData(let index, let address, let byteCount):
            let request = DialBackRequest(
                peer: peer, address: address, nonce: nonce, delay: server.delay(), remoteAddress: remoteAddress)
            state = .takingData(index: UInt32(index), request, remaining: byteCount)
            stream.send(
                Bytes(AutoNATMessage.dialDataRequest(index: UInt32(index), byteCount: UInt64(byteCount)).encoded))
            stream.startDeadline()
        case .reject: answer(.rejected, stream)
        case .refuse: answer(.refused, stream)
        }
    }

    private func start(_ index: UInt32, _ request: DialBackRequest, _ stream: PeerStream) {
        state = .dialing
        stream.clearDeadline()
        dial(request) { [weak self, weak stream] outcome in
            guard let self, let stream else { return }
            answer(.dialed(index: index, outcome), stream)
        }
    }

    private func answer(_ response: AutoNATResponse, _ stream: PeerStream) {
        state = .done
        guard stream.isOpen else { return }
        stream.send(Bytes(AutoNATMessage.dialResponse(response).encoded))
        stream.finish()
        // The client could keep its side open for ever.
        stream.startDeadline()
    }

    public func streamRemoteFinished(_ stream: PeerStream) {
        switch state {
        case .waitingForRequest, .takingData:
            state = .done
            stream.fail("AutoNAT: the request ends too early")
        case .dialing, .done: break
        }
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { state = .done }
}
