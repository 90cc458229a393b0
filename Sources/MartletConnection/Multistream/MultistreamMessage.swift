/// What goes over the wire in multistream-select 1.0: lines with a varint length in front that counts the line feed.
///
/// Specification: libp2p/specs `connections/README.md`.
enum MultistreamMessage {
    static let protocolID = "/multistream/1.0.0"

    /// The header with its length: the first bytes of every negotiation.
    static let header: [UInt8] = encode(protocolID)

    /// The answer to a proposal that is not supported.
    static let notAvailable: [UInt8] = encode("na")

    /// How long a line may be, line feed included. Protocol ids are below 140 bytes in practice; go-multistream
    /// refuses above 1,024 too.
    static let lengthLimit = 1024

    static func encode(_ line: String) -> [UInt8] {
        var output: [UInt8] = []
        append(line, to: &output)
        return output
    }

    static func append(_ line: String, to output: inout [UInt8]) {
        let length = line.utf8.count + 1
        precondition(length <= lengthLimit, "a protocol id of \(length) bytes; the limit is \(lengthLimit)")
        output.reserveCapacity(output.count + length + 2)
        // Two groups of seven bits suffice below the limit.
        if length >= 0x80 { output.append(UInt8(length & 0x7F) | 0x80) }
        output.append(UInt8(length >= 0x80 ? length >> 7 : length))
        output.append(contentsOf: line.utf8)
        output.append(0x0A)
    }
}

/// Why a negotiation failed.
public enum MultistreamError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The first bytes are not those of multistream-select.
    case notMultistream
    /// A line longer than `limit`.
    case lineTooLong(length: UInt64, limit: Int)
    /// An empty line, one without line feed, or a length that is not a proper varint.
    case malformedLine
    /// The peer supports none of the protocols proposed.
    case refused(proposed: [String])
    /// The peer answered with something that was not asked.
    case unexpectedAnswer(String)
    /// The peer proposed more than `limit` protocols that are not supported here.
    case tooManyProposals(limit: Int)

    public var description: String {
        switch self {
        case .notMultistream: "the peer does not speak multistream-select"
        case .lineTooLong(let length, let limit):
            "the peer sent a negotiation line of \(length) bytes; the limit is \(limit)"
        case .malformedLine: "the peer sent a malformed negotiation line"
        case .refused(let proposed): "the peer supports none of \(proposed.joined(separator: ", "))"
        case .unexpectedAnswer(let text): "the peer answered the proposal with \"\(text)\""
        case .tooManyProposals(let limit): "the peer proposed more than \(limit) unsupported protocols"
        }
    }
}

/// What a call of `receive` came to.
public struct MultistreamProgress: Hashable, Sendable {
    /// How many of the bytes given belong to the negotiation. Those after them belong to the protocol agreed on.
    public var consumed: Int
    /// The protocol agreed on; nil while the negotiation goes on.
    public var agreed: String?
}
