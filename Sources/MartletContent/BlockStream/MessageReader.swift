import MartletCore

/// Cuts a stream of bytes into messages with a varint length in front. Holds one unfinished message at most.
struct MessageReader {
    private let limit: Int
    private var buffer: [UInt8] = []

    init(limit: Int) {
        self.limit = limit
    }

    /// Whether the stream may end here.
    var isAtBoundary: Bool { buffer.isEmpty }

    /// Adds `bytes` and calls `body` with each message that is complete.
    mutating func append(
        _ bytes: Bytes, _ body: (RawSpan) throws(BlockStreamError) -> Void
    ) throws(BlockStreamError) {
        var rest = bytes
        while !rest.isEmpty {
            // The length may take nine bytes; with it known, exactly the message is taken.
            guard let header = try length() else {
                buffer.append(rest[0])
                rest.removeFirst(1)
                continue
            }
            let missing = header.byteCount + header.length - buffer.count
            let taken = rest.takeFirst(min(missing, rest.count))
            taken.withUnsafeBytes { buffer.append(contentsOf: $0) }
            try deliver(body)
        }
        // A message without content is complete with its length.
        try deliver(body)
    }

    private mutating func deliver(_ body: (RawSpan) throws(BlockStreamError) -> Void) throws(BlockStreamError) {
        guard let header = try length(), buffer.count == header.byteCount + header.length else { return }
        try body(buffer.span.bytes.extracting(header.byteCount..<buffer.count))
        buffer.removeAll(keepingCapacity: buffer.capacity <= 4096)
    }

    private func length() throws(BlockStreamError) -> (length: Int, byteCount: Int)? {
        do throws(DecodingError) {
            switch try Varint.decode(buffer.span.bytes) {
            case .incomplete: return nil
            case .value(let value, let size):
                guard value <= UInt64(limit) else { throw .tooLong(field: "request", length: value, limit: limit) }
                return (Int(value), size)
            }
        } catch {
            if case .tooLong(_, let length, _) = error { throw .requestTooLong(length, limit: limit) }
            throw .malformed(error)
        }
    }
}
