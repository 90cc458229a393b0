public import MartletCore

/// Takes one length-prefixed message at a time from the start of a stream, and leaves what follows it: after the last
/// message of a handshake that may already be a tunnelled connection.
///
///     while let message = try reader.next(from: &bytes) { … }
///
/// A value that holds at most one unfinished message.
public struct PrefixedMessageReader: Sendable {
    private let limit: Int
    private let field: String
    private var buffer: [UInt8] = []

    /// - Parameters:
    ///   - limit: the length in bytes beyond which a message is refused.
    ///   - field: what errors call a message.
    public init(limit: Int, field: String = "message") {
        self.limit = limit
        self.field = field
    }

    /// Whether the stream may end here: no message has been begun.
    public var isAtBoundary: Bool { buffer.isEmpty }

    /// The next message without its length; nil when `bytes` is used up and more must come.
    ///
    /// - Throws: for a length beyond the limit, as soon as it is read. The reader is not to be used again.
    public mutating func next(from bytes: inout Bytes) throws(DecodingError) -> [UInt8]? {
        while true {
            guard let (length, prefix) = try header() else {
                guard !bytes.isEmpty else { return nil }
                buffer.append(bytes[0])
                bytes.removeFirst(1)
                continue
            }
            let missing = prefix + length - buffer.count
            bytes.takeFirst(min(missing, bytes.count)).withUnsafeBytes { buffer.append(contentsOf: $0) }
            guard buffer.count == prefix + length else { return nil }
            let message = Array(buffer[prefix...])
            buffer = []
            return message
        }
    }

    private func header() throws(DecodingError) -> (length: Int, byteCount: Int)? {
        guard case .value(let length, let count) = try Varint.decode(buffer.span.bytes) else { return nil }
        guard length <= UInt64(limit) else {
            throw .tooLong(field: field, length: length, limit: limit)
        }
        return (Int(length), count)
    }
}
