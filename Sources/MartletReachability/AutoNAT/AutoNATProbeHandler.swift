public import MartletCore
public import MartletSwarm

/// Asks a peer to dial one address, sends the data that it wants for that, and tells what it answers.
public final class AutoNATProbeHandler: StreamHandler {
    private let address: Multiaddr
    private let nonce: UInt64
    private var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit, field: "AutoNAT message")
    private var hasSentData = false
    private weak var stream: PeerStream?
    /// Called once, on the connection's loop.
    private var onAnswer: ((Result<AutoNATResponse, StreamCloseReason>) -> Void)?

    public init(
        address: Multiaddr, nonce: UInt64, onAnswer: @escaping (Result<AutoNATResponse, StreamCloseReason>) -> Void
    ) {
        self.address = address
        self.nonce = nonce
        self.onAnswer = onAnswer
    }

    /// Gives up: nobody waits for the answer any more.
    public func cancel() {
        onAnswer = nil
        stream?.reset()
    }

    public func streamOpened(_ stream: PeerStream) {
        self.stream = stream
        stream.send(Bytes(AutoNATMessage.dialRequest(addresses: [address], nonce: nonce).encoded))
    }

    public func streamReceived(_ bytes: Bytes, on stream: PeerStream) {
        stream.consumed(bytes.count)
        var bytes = bytes
        do {
            while onAnswer != nil, let message = try reader.next(from: &bytes) {
                try receive(AutoNATMessage(message), on: stream)
            }
        } catch {
            stream.fail("AutoNAT: \(error)")
        }
    }

    private func receive(_ message: AutoNATMessage, on stream: PeerStream) throws(DecodingError) {
        switch message {
        case .dialDataRequest(let index, let byteCount):
            guard index == 0, !hasSentData else {
                throw .invalid(field: "AutoNAT data request", reason: "for an address that was not named")
            }
            guard byteCount <= AutoNAT.dialDataByteCounts.upperBound else {
                throw .tooLong(
                    field: "AutoNAT data", length: byteCount, limit: AutoNAT.dialDataByteCounts.upperBound)
            }
            hasSentData = true
            sendData(Int(byteCount), on: stream)
        case .dialResponse(let response):
            if case .dialed(let index, _) = response, index != 0 {
                throw .invalid(field: "AutoNAT answer", reason: "about an address that was not named")
            }
            stream.finish()
            answer(.success(response))
        case .dialRequest, .dialData: throw .invalid(field: "AutoNAT message", reason: "a server does not say that")
        }
    }

    private func sendData(_ byteCount: Int, on stream: PeerStream) {
        let piece = Bytes(AutoNATMessage.dialData(byteCount: AutoNAT.dialDataPieceLimit).encoded)
        // The last piece may be larger than what is left.
        for _ in 0..<(byteCount + AutoNAT.dialDataPieceLimit - 1) / AutoNAT.dialDataPieceLimit { stream.send(piece) }
    }

    private func answer(_ result: Result<AutoNATResponse, StreamCloseReason>) {
        onAnswer?(result)
        onAnswer = nil
    }

    public func streamClosed(_ stream: PeerStream, reason: StreamCloseReason) { answer(.failure(reason)) }
}
