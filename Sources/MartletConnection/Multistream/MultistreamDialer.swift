public import MartletCore

/// The side that proposes protocols, on a raw connection or on a stream.
///
///     var dialer = MultistreamDialer(proposals: ["/ipfs/ping/1.0.0"])
///     send(dialer.takeOutput())                       // with a single proposal, data of the protocol may follow at once
///     let progress = try dialer.receive(bytes.span)   // progress.agreed, and progress.consumed bytes were its own
///
/// The header and the first proposal go together. With a single proposal the protocol's own bytes may follow without
/// waiting ("lazy"); with several they may not, since a listener that refuses the first would take them for the second
/// (go-multistream issue 20). The owner ends a negotiation that takes longer than ten seconds.
///
/// Specification: libp2p/specs `connections/README.md`.
public struct MultistreamDialer: Sendable {
    private let proposals: [String]
    private var proposed = 0
    private var reader = MultistreamLineReader()
    private var output: [UInt8]
    private var agreed: String?

    /// - Parameter proposals: protocol ids, best first; at least one.
    public init(proposals: [String]) {
        precondition(!proposals.isEmpty, "nothing to propose")
        self.proposals = proposals
        output = MultistreamMessage.header
        MultistreamMessage.append(proposals[0], to: &output)
    }

    /// The first bytes of a negotiation for one protocol, for callers that keep them.
    public static func opening(for protocolID: String) -> Bytes {
        var dialer = MultistreamDialer(proposals: [protocolID])
        return Bytes(dialer.takeOutput())
    }

    /// Whether the protocol's own bytes may be sent before the answer is there.
    public var maySendAhead: Bool { proposals.count == 1 || agreed != nil }

    /// What is to be sent now; often empty.
    public mutating func takeOutput() -> [UInt8] {
        defer { output = [] }
        return output
    }

    /// Takes bytes from the peer, up to the end of the negotiation.
    public mutating func receive(_ input: RawSpan) throws(MultistreamError) -> MultistreamProgress {
        var position = 0
        while agreed == nil, let line = try reader.nextLine(in: input, at: &position) {
            if line.elementsEqual(proposals[proposed].utf8) {
                agreed = proposals[proposed]
            } else if line.elementsEqual("na".utf8) {
                proposed += 1
                guard proposed < proposals.count else { throw .refused(proposed: proposals) }
                MultistreamMessage.append(proposals[proposed], to: &output)
            } else {
                throw .unexpectedAnswer(String(decoding: line.prefix(140), as: UTF8.self))
            }
        }
        return MultistreamProgress(consumed: position, agreed: agreed)
    }
}
