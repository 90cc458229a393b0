/// The side that is asked, on a raw connection or on a stream.
///
///     var listener = MultistreamListener()
///     let progress = try listener.receive(bytes.span) { handlers.keys.contains($0) }
///     send(listener.takeOutput())
///
/// It says nothing until the peer's header is there, so a peer that speaks something else gets no answer. The owner
/// ends a negotiation that takes longer than ten seconds.
///
/// Specification: libp2p/specs `connections/README.md`. `ls` is answered with `na`, as it may be.
public struct MultistreamListener: Sendable {
    /// How many unsupported proposals are answered before the negotiation is given up.
    public static let proposalLimit = 64

    private var reader = MultistreamLineReader()
    private var refused = 0
    private var sentHeader = false
    private var output: [UInt8] = []
    private var agreed: String?

    public init() {}

    /// What is to be sent now; often empty.
    public mutating func takeOutput() -> [UInt8] {
        defer { output = [] }
        return output
    }

    /// Takes bytes from the peer, up to the end of the negotiation.
    ///
    /// - Parameter isSupported: whether a protocol id is served here.
    public mutating func receive(
        _ input: RawSpan, isSupported: (String) -> Bool
    ) throws(MultistreamError) -> MultistreamProgress {
        var position = 0
        while agreed == nil {
            let line = try reader.nextLine(in: input, at: &position)
            if reader.hasHeader, !sentHeader {
                output += MultistreamMessage.header
                sentHeader = true
            }
            guard let line else { break }
            // Ids are text; what is not is nobody's id.
            if let name = String(validating: line, as: UTF8.self), isSupported(name) {
                MultistreamMessage.append(name, to: &output)
                agreed = name
            } else {
                refused += 1
                guard refused <= Self.proposalLimit else { throw .tooManyProposals(limit: Self.proposalLimit) }
                output += MultistreamMessage.notAvailable
            }
        }
        return MultistreamProgress(consumed: position, agreed: agreed)
    }
}
